"""Lengths of time as people read them."""


def duration(seconds: float) -> str:
    """A length of time for people: "12 s", "3:05 min", "2:03 h" or "4 days"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} days"
