"""What the site has besides docs/: README.md as first page, and the reference. Links that leave docs/ become words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)")
INTO_DOCS = re.compile(r"\]\(docs/")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    readme = INTO_DOCS.sub("](", (ROOT / "README.md").read_text("utf-8"))
    files.append(File.generated(config, "index.md", content=readme))
    for page in sorted((Path(__file__).parent / "reference").glob("*.md")):
        files.append(File.generated(config, f"reference/{page.name}", content=page.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """The repository has no address yet: what is not a page is named by its path in it."""

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = target.partition("#")[0]
        known = {file.src_uri for file in files.documentation_pages()}
        if path in known or (Path(page.file.src_uri).parent / path).as_posix() in known:
            return link.group()
        if (ROOT / "docs" / Path(page.file.src_uri).parent / path).resolve() == ROOT / "README.md":
            first = "../" * page.file.src_uri.count("/") + "index.md"
            return link.group().replace(path, first)
        name = path.removeprefix("../")
        if not (ROOT / name).exists() and not (ROOT / "docs" / name).exists():
            return link.group()  # broken: the build says so
        return text if text.strip("`") == name else f"{text} (`{name}`)"

    return LINK.sub(named, markdown)
