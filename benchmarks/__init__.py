"""How fast, how small, how late: every figure of the goals, measured beside the limits of the machine.

``python -m benchmarks`` (or ``make bench``) prints a table and writes JSON into ``benchmarks/results/``. Nothing is
asserted here: a machine that others use gives other figures. What is measured is the program as users run it, in
processes of its own, but for the codecs.
"""
