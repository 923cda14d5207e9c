"""The model registry: a study's detector under the study's name, the champion by alias."""

from collections.abc import Mapping

from rwood.tracking.client import connect

CHAMPION_ALIAS = "champion"
"""Alias of the version that the study chose last: `models:/<study>@champion`."""


def register_champion(
    uri: str,
    name: str,
    model_uri: str,
    run_id: str,
    *,
    question: str,
    description: str,
    tags: Mapping[str, str],
) -> str:
    """Register a logged model as the study's champion and move the alias to it.

    Earlier versions keep their numbers. The same model of the same run is registered once.

    Args:
        uri: MLflow server or store.
        name: of the registered model: the study's; made if it is not there.
        model_uri: `models:/m-...` as logged.
        run_id: the run that made it.
        question: what the study asks, shown on the model's page.
        description: Markdown, shown on the version's page.
        tags: of the version.

    Returns:
        The version's number.
    """
    client = connect(uri)
    model_id = model_uri.removeprefix("models:/")
    source = client.get_logged_model(model_id).artifact_location
    models = client.search_registered_models(f"name = '{name}'")
    if not models:
        client.create_registered_model(name, {"rwood.study": name}, question)
    elif models[0].description != question:
        client.update_registered_model(name, question)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((v for v in versions if v.run_id == run_id and v.source == source), None)
    if version is None:
        version = client.create_model_version(name, source, run_id, model_id=model_id)
    number = str(version.version)
    if version.description != description:
        client.update_model_version(name, number, description)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, number, key, value)
    client.set_registered_model_alias(name, CHAMPION_ALIAS, number)
    return number
