"""The intermediate representation: types, ops, programs, their text form and their meaning."""
