"""The boundary: whatever a stranger may have written passes through this room, and only here.

Rows, studies, packed results, weights, arrays, zips, pictures and YAML are exchanged between
people. Each module of this room reads one kind of them, with bounds on what a file *declares*
before anything of that size is read or allocated:

- ``paths``: where a file may lie, and that it is one;
- ``text``: text made fit to be shown on a terminal, in a message, in a spreadsheet;
- ``documents``: text, JSON and YAML, checked by a schema;
- ``arrays``: ``.npy`` and ``.npz``; ``zip_directory``: of zips that a library wrote;
- ``zips``, ``tars``: archives;
- ``pickles``: the plain values of CIFAR-10's files, which are read and never run;
- ``pictures``: PNG, JPEG, WebP, BMP, and others where they are asked for;
- ``weights``: tensors, and the known TorchScript of Inception.

What is wrong with a file is one ``UserError``: which file, what came, what is allowed, what to do.
``tests/test_architecture.py`` holds that nothing else opens such a file; what may be taken from
strangers stands in docs/security.md.
"""
