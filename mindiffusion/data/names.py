"""Names a data set's description may use; free of imports, since every worker process reads it."""

DATASETS = ("avatars", "celeba", "photos")
AVATAR_STYLES = ("personas", "toon-head", "open-peeps")
STYLES = (*AVATAR_STYLES, "mixed")
#: What a class is, of folders and zips: the folder that an image lies in, or what a list says.
BY_FOLDER, BY_LIST = "folder", "dataset.json"
#: How a photograph becomes a square; ``crops`` does it.
CROPS = ("squash", "center178", "center140", "uvit128", "adm")
#: Where captions are from, as ``data.captions`` names it; AUTO: whatever the images have.
ATTRIBUTES, PICTURE, ANNOTATIONS = "attributes", "picture", "annotations"
BESIDE, METADATA = "txt", "metadata.jsonl"
AUTO = "auto"
CAPTION_SOURCES = (ATTRIBUTES, PICTURE, ANNOTATIONS, BESIDE, METADATA, BY_LIST)
