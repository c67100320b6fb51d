"""Takes the pictures of docs/explorer.md: ``python tools/explore_pictures.py PAGES docs/images``.

PAGES is the folder that tools/explore_pages.py filled. Needs playwright and Debian's chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal, NamedTuple

WIDE, PHONE = (1440, 900), (390, 1300)


class Picture(NamedTuple):
    """One picture: of which page, in which state and window."""

    page: str
    fragment: str
    size: tuple[int, int] = WIDE
    theme: Literal["light", "dark"] = "light"


PICTURES = {
    "explorer-tree": Picture("resnet50-fp16", "selected=m:layer1.0"),
    "explorer-charts": Picture("searched-mix", "view=charts", theme="dark"),
    "explorer-graph": Picture("resnet50-fp16", "view=graph&selected=m:layer2.0"),
    "explorer-what-if": Picture("searched-mix", "view=precision"),
    "explorer-comparison": Picture("comparison", "view=comparison"),
    "explorer-phone": Picture("detector", "view=modules", PHONE, "dark"),
}


def main(pages: Path, images: Path) -> None:
    """Writes every picture into `images`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for name, picture in PICTURES.items():
            width, height = picture.size
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=picture.theme
            )
            page.goto(f"{(pages / f'{picture.page}.html').resolve().as_uri()}#{picture.fragment}")
            page.wait_for_selector("html[data-ready]")
            page.wait_for_timeout(300)  # charts follow the width that they are given
            page.screenshot(path=images / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
