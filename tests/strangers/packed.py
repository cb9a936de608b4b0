"""Inputs that are packed studies: whole, with wrong members, with damaged bytes."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

import mutate
from documents import Action, command, demo_index, demo_rows

_NAMES = (
    "study.json", "rows.jsonl", "b/seed0/config.json", "b/seed0/ckpt-000000001.pt", "b/seed0/x.png",
    "../out.json", "/tmp/rows.jsonl", "torch.py", "b/../../config.json", "b/" * 200 + "x.png",
)  # fmt: skip


def _tar(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    formats = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice(formats)) as archive:
        index = mutate.as_json(rng, mutate.document(rng, demo_index()))
        rows = b"".join(json.dumps(row).encode() + b"\n" for row in rng.sample(demo_rows(), 3))
        members = [("study.json", index), ("rows.jsonl", rows)]
        members += [(rng.choice(_NAMES), b"x") for _ in range(rng.randint(0, 3))]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if rng.random() < 0.05:
                member.type, member.linkname = (
                    rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)),
                    "../x",
                )
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def packed(rng: random.Random) -> Action:
    """A packed study is unpacked beside, or into, another."""
    tar = _tar(rng)
    tar = mutate.content_bytes(rng, tar) if rng.random() < 0.4 else tar
    whole = gzip.compress(tar, 1)
    whole = mutate.content_bytes(rng, whole) if rng.random() < 0.3 else whole
    part = {"name": "travel.tar.gz.0", "sha256": hashlib.sha256(whole).hexdigest()}
    manifest: object = {"study": "x", "parts": [part]}
    manifest = mutate.document(rng, manifest) if rng.random() < 0.3 else manifest
    folder = Path("packed")
    folder.mkdir()
    (folder / "travel.tar.gz.0").write_bytes(whole)
    (folder / "travel.json").write_bytes(mutate.as_json(rng, manifest))
    return command("unpack", "packed", "out")
