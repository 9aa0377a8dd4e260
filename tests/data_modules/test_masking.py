"""Secrets are masked wherever they stand; what only looks a little like one is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from data_modules.faults import ConfigFault, Fault
from data_modules.masking import MASK, is_secret, masked, masked_arguments, masked_text

HEX = "0123456789abcdef0123456789abcdef01234567"
# put together here: a scanner of the repository would take them for real ones
HF = "hf_" + "aBcDeFgHiJ" * 3
SK = "sk-" + "proj-1234567890abcdefghij"
GITHUB = "ghp_" + "A1b2" * 9
TOKENS = [
    *(
        HF,
        SK,
        "sk-" + "ant-api03-" + "x" * 40,
        "wandb_v1_" + "Z9" * 20,
        GITHUB,
        "glpat-" + "a" * 20,
    ),
    *("github_pat_" + "1a_" * 20, "xoxb-" + "123456-abcdef", "AKIA" + "ABCDEFGH12345678", HEX),
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + "s" * 20,
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "text",
    ["{}", "a {} b", "x={}", "model.path='{}'", "[{}]", '{{"a": "{}"}}', "{}.", "no: {}, yes"],
)
def test_tokens_of_services_are_masked_in_any_text(token: str, text: str) -> None:
    said = text.format(token)
    if token == HEX and said.endswith("."):
        pytest.skip("a file name may look like that")
    assert token not in masked_text(said)
    assert masked_text(said) == text.format(MASK)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://me:pass@host/x", f"https://{MASK}@host/x"),
        (f"https://{'a' * 12}@host/x", f"https://{MASK}@host/x"),
        ("s3://host/x?X-Amz-Signature=abc&n=1", f"s3://host/x?X-Amz-Signature={MASK}&n=1"),
        ("http://h/?token=abc#d", f"http://h/?token={MASK}#d"),
        ("Authorization: Bearer abcdefghijklmnop", f"Authorization: Bearer {MASK}"),
        ("++hub.token=abcdefgh1234", f"++hub.token={MASK}"),
        ("db_password=x", f"db_password={MASK}"),
        ("API_KEY: 'a1b2c3d4e5'", f"API_KEY: {MASK}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- x", f"{MASK} x"),
    ],
)
def test_secrets_by_their_place(text: str, wanted: str) -> None:
    assert masked_text(text) == wanted
    assert masked_text(wanted) == wanted, "nothing is masked twice"


@pytest.mark.parametrize(
    "text",
    [
        "curriculum.phases.mix.loss_normalization=token",
        "data.tasks.qa.max_new_tokens=128",
        "pad_token=<|endoftext|>",
        "pad_token: <|endoftext|>",
        "model.architecture.eos_token=</s>",
        "model.tokenizer=/models/qwen/tokenizer",
        "++model.tokenizer=Qwen/Qwen2.5-0.5B",
        f"hub:owner/name@{HEX}",
        f"/cache/models--a--b/snapshots/{HEX}/config.json",
        "every token: it needs an embedding",
        "key 'output' appears twice",
        "data.tasks.translation.tag='[translation]'",
        "the public key: see docs/evaluation.md",
        "desk-and-chair-and-table-and-lamp",
        "task-sk-learn",
        "user@example.org",
        "conf/task/qa.yaml:12: unknown key",
        "a" * 64,  # a sha256
        "secret santa: who gives to whom?",
        "sort_key=created_at",
        "row_keys: uint64",
        "1e-05",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked_text(text) == text


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("hub.token", "abcdefgh1234", True),
        ("zero.extra.api_key", "abcdefgh1234", True),
        ("apiKey", "abcdefgh1234", True),
        ("HF_TOKEN", "abcdefgh1234", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("password", "with blanks too", True),
        ("password", "", False),
        ("password_reset.tag", "[password_reset]", False),
        ("pad_token", "abcdefgh1234", False),
        ("bos_token", "<s>", False),
        ("token", "short", False),
        ("key", "two words here", False),
        ("step_key", "12345678", False),
        ("tokenizer", "/models/tokenizer", False),
        ("max_new_tokens", "128000000", False),
        ("monkey", "abcdefgh1234", False),
        ("keyboard", "abcdefgh1234", False),
        ("loss_normalization", "token", False),
    ],
)
def test_names_that_tell_of_secrets(key: str, value: str, secret: bool) -> None:
    assert is_secret(key, value) == secret


def test_trees_are_masked_by_name_and_by_value() -> None:
    tree: dict[str, Any] = {
        "model": {"path": "https://me:pw@hub/m", "architecture": {"pad_token": "<pad_token>"}},
        "zero": {"extra": {"hub_token": "abcdefgh1234", "list": [HF, 1, None, True, 0.5]}},
        "data": {
            "tasks": {"secret": {"tag": "[secret]", "cues": ["?"]}},
            "groups": {"key": ["qa"]},
        },
        "loss_normalization": "token",
    }
    assert masked(tree) == {
        "model": {"path": f"https://{MASK}@hub/m", "architecture": {"pad_token": "<pad_token>"}},
        "zero": {"extra": {"hub_token": MASK, "list": [MASK, 1, None, True, 0.5]}},
        "data": {
            "tasks": {"secret": {"tag": "[secret]", "cues": ["?"]}},
            "groups": {"key": ["qa"]},
        },
        "loss_normalization": "token",
    }
    assert masked(masked(tree)) == masked(tree)


def test_command_lines() -> None:
    assert masked_arguments(
        [
            "train.py",
            "--token",
            "abcdefgh1234",
            "++a.secret=x",
            f"++b={HF}",
            "+phase=mix",
            "--token",
        ]
    ) == ["train.py", "--token", MASK, f"++a.secret={MASK}", f"++b={MASK}", "+phase=mix", "--token"]


def test_values_of_secret_variables_are_masked_wherever_they_turn_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "cannot open swordfish42 in swordfish"
    assert masked_text(said) == said
    monkeypatch.setenv("MY_PASSWORD", "swordfish42")
    assert masked_text(said) == f"cannot open {MASK} in swordfish"
    monkeypatch.setenv("MY_PASSWORD", "short")
    assert masked_text("a short text") == "a short text"


def test_messages_of_faults_are_masked() -> None:
    fault = ConfigFault(Fault("model.path", f"https://me:pw@host: {HF} is wrong", "it must load"))
    assert "pw" not in str(fault)
    assert HF not in str(fault)
    assert f"model.path: https://{MASK}@host: {MASK} is wrong; it must load." in str(fault)
