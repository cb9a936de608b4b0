"""Names a data set's description may use; free of imports, since every worker process reads it."""

DATASETS = ("avatars", "celeba", "photos")
AVATAR_STYLES = ("personas", "toon-head", "open-peeps")
STYLES = (*AVATAR_STYLES, "mixed")
#: What a class is, of folders and zips: the folder that an image lies in, or what a list says.
BY_FOLDER, BY_LIST = "folder", "dataset.json"
#: Crop name to the square kept, in original pixels: its side, and its left upper corner (x, y) or
#: None where it is in the centre. None alone: the whole picture. uvit128 is that of U-ViT's code.
CROPS: dict[str, tuple[int, tuple[int, int] | None] | None] = {
    "squash": None,
    "center178": (178, None),
    "center140": (140, None),
    "uvit128": (128, (25, 57)),
}
