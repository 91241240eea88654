"""The manifests under examples/cluster are what Ray, KubeRay and Kubernetes take."""

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import ray.autoscaler
import typer.main
import yaml

from rllib_wireless import __version__
from rllib_wireless.cli import app

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples/cluster"
KUBERNETES = "1.33"

_TEXT, _INT, _BOOL = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_START = {"type": "object", "additionalProperties": _TEXT}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


# The fields of KubeRay's v1 API that the example uses, with the types that its reference gives. The operator's own schema,
# over a megabyte, comes with no package. Pods and lists in it are left to Kubernetes' schema.
RAYJOB = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata={"type": "object"},
    spec=_object(
        "entrypoint rayClusterSpec",
        entrypoint=_TEXT,
        backoffLimit=_INT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=_BOOL,
        ttlSecondsAfterFinished=_INT,
        submitterPodTemplate={"type": "object"},
        rayClusterSpec=_object(
            "headGroupSpec",
            rayVersion=_TEXT,
            enableInTreeAutoscaling=_BOOL,
            autoscalerOptions=_object(idleTimeoutSeconds=_INT, env={"type": "array"}),
            headGroupSpec=_object("template", rayStartParams=_START, template={"type": "object"}),
            workerGroupSpecs={
                "type": "array",
                "items": _object(
                    "groupName template",
                    groupName=_TEXT,
                    replicas=_INT,
                    minReplicas=_INT,
                    maxReplicas=_INT,
                    rayStartParams=_START,
                    template={"type": "object"},
                ),
            },
        ),
    ),
)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text()))


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods of a RayJob, as manifests of their own."""
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    templates = {"submitter": spec["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {
        name: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        for name, template in templates.items()
    }


def test_the_rayjob_has_the_fields_of_its_api(documents: list[dict[str, Any]]) -> None:
    _, job = documents
    jsonschema.validate(job, RAYJOB)
    wrong = copy.deepcopy(job)
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(wrong, RAYJOB)


def test_its_pods_and_its_volume_are_what_kubernetes_takes(documents: list[dict[str, Any]]) -> None:
    claim, job = documents
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    for pod in pods(job).values():
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    wrong = copy.deepcopy(pods(job)["head"])
    wrong["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_every_pod_has_the_token_and_those_of_ray_the_volume(documents: list[dict[str, Any]]) -> None:
    claim, job = documents
    for name, pod in pods(job).items():
        (container,) = pod["spec"]["containers"]
        env = {entry["name"]: entry for entry in container["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token" and "secretKeyRef" in env["RAY_AUTH_TOKEN"]["valueFrom"]
        assert container["image"] == f"rllib-wireless:{__version__}"
        if name != "submitter":
            (volume,) = pod["spec"]["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
            assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]


def test_the_command_of_the_job_exists(documents: list[dict[str, Any]]) -> None:
    words = shlex.split(documents[1]["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "rllib_wireless", "train"]
    entry = typer.main.get_command(app)
    assert isinstance(entry, typer.core.TyperGroup)
    params = entry.commands["train"].make_context("train", words[4:]).params
    assert params["resume"] and params["max_failures"] == 3
    (mount,) = pods(documents[1])["head"]["spec"]["containers"][0]["volumeMounts"]
    assert str(params["out"]).startswith(mount["mountPath"])


def test_ray_up_takes_the_cluster_of_machines() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = yaml.safe_load((FOLDER / "aws.yaml").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate({**config, "max_worker": 3}, schema)


def test_versions_are_those_of_this_package(documents: list[dict[str, Any]]) -> None:
    from ray import __version__ as of_ray

    assert documents[1]["spec"]["rayClusterSpec"]["rayVersion"] == of_ray
    assert f"FROM rayproject/ray:{of_ray}-py311" in (FOLDER / "Dockerfile").read_text()
    environment = yaml.safe_load((FOLDER / "runtime-env.yaml").read_text())
    assert environment["py_modules"] == [f"dist/rllib_wireless-{__version__}-py3-none-any.whl"]
