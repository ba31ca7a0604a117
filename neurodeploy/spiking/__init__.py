"""Recurrent networks as spiking networks: what the spiking backends share.

:mod:`network` finds the one recurrent layer of a program; :mod:`liquid` and :mod:`liquid_fit` turn it into a
liquid-state machine, :mod:`sigma_delta` into clocked sigma-delta neurons; :mod:`costs` counts events, :mod:`energy`
prices them, and :mod:`fit` says what a chip would need.
"""
