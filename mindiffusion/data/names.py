"""Names a data set's description may use; free of imports, since every worker process reads it."""

DATASETS = ("avatars", "celeba", "photos")
AVATAR_STYLES = ("personas", "toon-head", "open-peeps")
STYLES = (*AVATAR_STYLES, "mixed")
#: Crop name to the side, in original pixels, of the centre square kept (None: the whole picture).
CROPS: dict[str, int | None] = {"squash": None, "center178": 178, "center140": 140}
