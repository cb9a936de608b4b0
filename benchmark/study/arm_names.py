"""The arms that this program knows, by name, in the order in which they are shown."""

# The factorial comes first, in the order of its arms' complexity; then C's controls, then checks.
KNOWN_ARMS: tuple[str, ...] = ("B", "S", "R", "C", "CS", "CR")
KNOWN_ARMS += ("density*", "static", "shuffled*", "anti*", "C-flat", "A/A", "B-80%", "B-half")
BASELINE = "B"
