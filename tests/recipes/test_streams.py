"""A manifest's streams, read by their generators against a vendor that the test plays."""

import recipes
from connectors import SettingsForm
from tests.recipes._playing import manifest, only, play, read, stream


def test_a_simple_stream_is_a_snapshot_of_one_page() -> None:
    items = only(stream())
    played = play(items, {"/v1/items": {"items": [{"id": 1}, {"id": 2}]}})
    assert played.records == [{"id": 1}, {"id": 2}]
    assert [items.key(record) for record in played.records] == ["1", "2"]  # type: ignore[operator]
    assert (items.snapshot, items.hides_deletes) == (True, False)
    assert [dict(page.checkpoint) for page in played.pages] == [{}]


def test_a_recipe_says_what_its_settings_are() -> None:
    recipe = read(stream())
    assert recipe.spec["properties"]["key"]["type"] == "string"
    assert recipe.secrets == {("key",)}
    assert isinstance(recipe.connector.auth, SettingsForm)
    assert recipe.connector.auth.verify is recipe.check
    assert recipe.connector.hosts == ("api.made-up.example",)


def test_the_manifest_may_be_json() -> None:
    import json

    import yaml

    text = json.dumps(yaml.safe_load(manifest(stream())))
    assert [one.name for one in recipes.read(text, name="x").connector.streams] == ["items"]
