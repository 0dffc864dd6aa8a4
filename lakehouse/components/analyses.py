"""The component behind an analysis's `defs.yaml`: an asset per output key, which can be materialized alone."""

from collections.abc import Iterator
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel

from lakehouse.analyses.code import code_version
from lakehouse.analyses.described import AnalysisConfig
from lakehouse.analyses.registry import Registry
from lakehouse.analyses.spec import AnalysisError, Definition
from lakehouse.analyses.validation import require_valid
from lakehouse.components.resources import LakeResource

GROUP = "analyses"


class Analysis(dg.Component):
    """An analysis: a table of tasks and the values of its inputs. The attributes are those of
    `lakehouse.analyses.described.AnalysisConfig`.
    """

    def __init__(self, config: AnalysisConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return AnalysisConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        assert isinstance(attributes, AnalysisConfig)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        definition, registry = self.config.definition(), Registry.installed()
        try:
            require_valid(definition, registry)
        except AnalysisError as error:
            # One analysis with faults must not keep the others from loading.
            return dg.Definitions(assets=[_shown(definition.name, error)])
        return dg.Definitions(assets=[analysis_assets(definition, registry, self.config.owners)])


def asset_key(analysis: str, key: str) -> dg.AssetKey:
    """The asset of an output key."""
    return dg.AssetKey([GROUP, analysis, key])


def analysis_assets(definition: Definition, registry: Registry, owners: list[str]) -> dg.AssetsDefinition:
    """The assets of the output keys. A run computes what the selected ones need, and materializes these alone."""
    name = definition.name
    upstream = {key: set(row.input_keys) for row in definition.rows for key in row.output_keys}
    tables = {key: tables_of(definition, key) for key in definition.output_keys}
    specs = [
        dg.AssetSpec(
            asset_key(name, key),
            deps=[
                *(asset_key(name, other) for other in definition.output_keys if other in upstream[key]),
                *(dg.AssetKey(table.split(".")) for table in tables[key]),
            ],
            description=f"{definition.description or name}: {key}",
            group_name=GROUP,
            kinds={"polars"},
            owners=owners,
            code_version=code_version(registry.get(row.func_path), row.kwargs)[:12],
            skippable=True,
        )
        for _, row in definition.in_order
        for key in row.output_keys
    ]

    @dg.multi_asset(name=f"analysis_{name}", specs=specs, can_subset=True)
    def materialized(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[Any]]:
        finished = lake.open().analyses.run(definition)
        for key, about in finished.run.outputs.items():
            if asset_key(name, key) in context.selected_asset_keys:
                yield dg.MaterializeResult(
                    asset_key=asset_key(name, key),
                    data_version=dg.DataVersion(about["fingerprint"]),
                    metadata={
                        "kind": about["kind"],
                        "run": finished.run.run_id,
                        "version": finished.run.version,
                        **{figure: value for figure, value in about["figures"].items() if value is not None},
                    },
                )

    return materialized


def tables_of(definition: Definition, key: str) -> list[str]:
    """The tables of the lake that the task of an output key names by its keyword `table`."""
    return [str(row.kwargs["table"]) for row in definition.rows if key in row.output_keys and "table" in row.kwargs]


def _shown(name: str, error: AnalysisError) -> dg.AssetSpec:
    """An asset that nothing makes: its description says why those of the analysis are missing."""
    return dg.AssetSpec(
        [GROUP, name, "defs_yaml"],
        group_name=GROUP,
        description=f"This analysis is left out until its file is corrected.\n\n{error}",
    )
