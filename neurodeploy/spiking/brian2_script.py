"""A spiking network as a Brian2 script that runs and can be edited without neurodeploy: ``network.py``.

It reads the network's arrays from :meth:`SpikingNet.to_bytes`'s file beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.spiking.brian2_names import Names
from neurodeploy.spiking.net import SpikingNet

SCRIPT = "network.py"
#: What one build simulates: about this many ticks of this many neurons and synapses, all lanes together.
BUILD_TICKS, BUILD_NEURONS, BUILD_SYNAPSES = 1024, 4096, 1_000_000
MOST_LANES = 64


def net_script(net: SpikingNet, data: str, title: str = "A spiking network") -> str:
    """The script of a network whose arrays the file ``data`` beside it holds."""
    given = Names()
    names = [given.new(p.name) for p in net.projections]
    projections = [
        {"name": name, "title": plain(p.name), "key": f"p{i}", "delay": p.delay, "order": 5 + i,
         "synapses": int(np.count_nonzero(p.weights)), "endpoints": ""}
        for i, (name, p) in enumerate(zip(names, net.projections, strict=True))
    ]  # fmt: skip
    currents = " + ".join(f"syn_{name}" for name in names)
    parameters = {"beta": "beta", "threshold_": "threshold", "rest": "start", "keep": "keep"}
    if net.limited:
        parameters |= {"floor_": "floor", "ceiling": "ceiling"}
    parameters |= {f"alpha_{name}": f"p{i}_alpha" for i, name in enumerate(names)}
    return render(
        "brian2_net.py.j2",
        title=plain(title),
        data=data,
        neurons=net.neurons,
        inputs=net.W_in.shape[1],
        outputs=len(net.readout),
        populations={name: (a, b) for name, a, b in net.populations},
        ticks=net.ticks,
        dt=repr(net.dt_s),
        in_scale=repr(net.in_scale),
        out_scale=repr(net.out_scale),
        trace_bits=net.trace_bits,
        lanes=lanes_for(net.neurons, net.synapses),
        frames=frames_of(net),
        gap=gap_of(net),
        projections=projections,
        parameters=parameters,
        limited=net.limited,
        input_to=net.input_to,
        reset=net.reset,
        total=f" + ({currents})" if len(names) > 1 else f" + {currents}" if names else "",
    )


def lanes_for(neurons: int, synapses: int) -> int:
    """How many copies of a network one build runs side by side."""
    fit = min(BUILD_NEURONS // max(1, neurons), BUILD_SYNAPSES // max(1, synapses))
    return int(min(max(fit, 1), MOST_LANES))


def frames_of(net: SpikingNet, longest: int = 1) -> int:
    """How many frames one build runs: a power of two that holds the longest sample."""
    wanted = max(BUILD_TICKS // net.ticks, longest, 1)
    return 1 << (wanted - 1).bit_length()


def gap_of(net: SpikingNet) -> int:
    """Frames between two samples in which the last one's spikes arrive."""
    longest = max([p.delay for p in net.projections], default=1)
    return -(-(longest - 1) // net.ticks)


def plain(text: str) -> str:
    """Text that can stand in a docstring."""
    return " ".join(text.replace('"', "'").replace("\\", "/").split())


def render(template: str, **values: Any) -> str:
    """A template of ``spiking/templates``, filled in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurodeploy.spiking"), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
