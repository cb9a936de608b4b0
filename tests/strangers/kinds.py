"""Every kind of input: from a source of random numbers to what a user does with the file made."""

from binary import arrays, celeba, pictures, prepared, records, training, weights, zips
from documents import index, rows, run_folder, study_file
from packed import packed

KINDS = {
    "rows": rows,
    "index": index,
    "run": run_folder,
    "study": study_file,
    "packed": packed,
    "lists": celeba,
    "arrays": arrays,
    "prepared": prepared,
    "records": records,
    "weights": weights,
    "pictures": pictures,
    "training": training,
    "zips": zips,
}
