"""`croissant.json`: the data set as JSON-LD by the specifications Croissant 1.1 and its RAI 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mfsynth.shards.documents.models import licence_id, model_name
from mfsynth.shards.documents.responsible import responsible_use
from mfsynth.shards.layout import REJECTED_TAR
from mfsynth.shards.words import how_made, tags_of

_TYPES = {
    "string": "sc:Text",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "uint32": "sc:Integer",
    "bool": "sc:Boolean",
    "double": "sc:Float",
}

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "annotation": "cr:annotation",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(manifest: Mapping[str, Any], index: pa.Schema) -> dict[str, Any]:
    """JSON-LD: the files, the index as a record set, and how the data came to be.

    Files are named one by one, because a pattern would match what no commit refers to.

    Args:
        manifest: As `build_manifest` makes it.
        index: Schema of the rows.
    """
    name = manifest["run"]
    licence = licence_id(manifest["licence"])
    counts = manifest["counts"]
    made, _ = how_made(manifest["settings"])
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": name,
        "description": (
            f"{counts['pairs']} RGB-D pairs, made with mfsynth. {made}. "
            f"Depth kinds: {', '.join(manifest['depth_kinds']) or 'none'}."
        ),
        "version": _version(manifest["format_version"], counts["shards"]),
        "dateCreated": manifest["created"],
        "datePublished": manifest["last_commit"],
        "license": (
            f"https://spdx.org/licenses/{licence}.html" if licence else manifest["licence"]
        ),
        "keywords": ["rgb-d", "depth", *tags_of(manifest["settings"])],
        "isBasedOn": [model_name(model) for model in manifest["models"]],
        **responsible_use(manifest),
        "distribution": _distribution(manifest),
        "recordSet": [_record_set(index, manifest)],
    }
    return {key: value for key, value in document.items() if value is not None}


def _version(format_version: int | str, shards: int) -> str:
    """By the rules of semantic versions, as the specification asks for."""
    major, _, draft = str(format_version).partition("-")
    return f"{major}.0.{shards}" + (f"-{draft}" if draft else "")


def _distribution(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    # From where the document lies.
    run = "../../" if "view" in manifest else ""
    if "view" in manifest:
        rows = manifest["view"]["rows"]
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": rows["key"],
                "name": rows["key"],
                "contentUrl": rows["key"],
                "contentSize": f"{rows['size']} B",
                "encodingFormat": "application/x-parquet",
                "sha256": rows["sha256"],
            }
        )
    for kind, media in (
        ("tar", "application/x-tar"),
        ("index", "application/x-parquet"),
        ("rejects", "application/x-parquet"),
        (REJECTED_TAR, "application/x-tar"),
    ):
        stored = [shard[kind] for shard in manifest["shards"] if kind in shard]
        if not stored:
            continue
        files += [
            {
                "@type": "cr:FileObject",
                "@id": each["key"],
                "name": each["key"],
                "contentUrl": f"{run}{each['key']}",
                "contentSize": f"{each['size']} B",
                "encodingFormat": media,
                "sha256": each["sha256"],
            }
            for each in stored
        ]
        files.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{kind}-files",
                "name": f"{kind}-files",
                "encodingFormat": media,
                "includes": [each["key"] for each in stored],
            }
        )
    return files


def _record_set(index: pa.Schema, manifest: Mapping[str, Any]) -> dict[str, Any]:
    rows = {"fileSet": {"@id": "index-files"}}
    if "view" in manifest:
        rows = {"fileObject": {"@id": manifest["view"]["rows"]["key"]}}
    return {
        "@type": "cr:RecordSet",
        "@id": "pairs",
        "name": "pairs",
        "description": "One record an RGB-D pair; its bytes are in the tar of its shard.",
        "key": {"@id": "pairs/sample_id"},
        # A type that a later mfsynth has invented has no name here.
        "field": [_field(each, rows) for each in index if str(_item_type(each)) in _TYPES],
    }


def _field(field: pa.Field, rows: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"pairs/{field.name}",
        "name": field.name,
        "dataType": _TYPES[str(_item_type(field))],
        **({"repeated": True} if pa.types.is_list(field.type) else {}),
        "source": {**rows, "extract": {"column": field.name}},
    }


def _item_type(field: pa.Field) -> pa.DataType:
    return field.type.value_type if pa.types.is_list(field.type) else field.type
