"""A page as a reader sees it, and what a browser would run or load."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input"}
_SELF_CLOSED = {"rect", "line", "polyline"}
_LOADS = {"src", "srcset", "href", "data", "action", "poster", "background", "xlink:href"}


class ParsedPage(HTMLParser):
    """Tags, tables and texts of a page.

    Attributes:
        tables: rows of cells' texts, by the table's ``aria-label``; unlabelled ones by their number.
        sections: texts by the section's id.
        loads: attributes that could load something from elsewhere; links within the page left out.
        handlers: attributes that would run a script.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.sections: dict[str, str] = {}
        self.open: list[str] = []
        self.text = ""
        self._table = self._section = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._watch(tag, attributes)
        if tag == "section":
            self._section = dict(attributes).get("id") or f"section {len(self.sections)}"
            self.sections[self._section] = ""
        if tag == "table":
            self._table = dict(attributes).get("aria-label") or f"table {len(self.tables)}"
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        if tag not in _VOID | _SELF_CLOSED:
            self.open.append(tag)

    def _watch(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")
            if name in _LOADS and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {name}={value}")
            if name == "style" and "url(" in (value or ""):
                self.loads.append(f"{tag} style={value}")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SELF_CLOSED:
            return
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "title" in self.open[:2]:
            return
        self.text += data
        if "section" in self.open:
            self.sections[self._section] += data
        if "td" in self.open or "th" in self.open:
            self.tables[self._table][-1][-1] += data

    def rows(self, table: str) -> dict[str, list[str]]:
        """Name -> cells of a table."""
        return {row[0]: row[1:] for row in self.tables[table]}
