"""The component behind an analysis's `defs.yaml`: an asset per output key, which can be materialized alone. Also the
job that runs analyses whose rows are in the lake only, which needs no reload.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from lakehouse.analyses.code import code_version
from lakehouse.analyses.described import AnalysisConfig
from lakehouse.analyses.drawing import draw
from lakehouse.analyses.limited import Limits
from lakehouse.analyses.registry import Registry
from lakehouse.analyses.service import Finished
from lakehouse.analyses.spec import AnalysisError, Definition, Row
from lakehouse.analyses.validation import require_valid
from lakehouse.analyses.values import Chart
from lakehouse.api import Lake
from lakehouse.components.bars.figures import image_markdown
from lakehouse.components.described import DescribedComponent
from lakehouse.components.metadata import records_table
from lakehouse.components.resources import LakeResource

GROUP = "analyses"


class Analysis(DescribedComponent):
    """An analysis: a table of tasks and the values of its inputs. The attributes are those of
    `lakehouse.analyses.described.AnalysisConfig`.
    """

    model = AnalysisConfig
    config: AnalysisConfig

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        definition, registry = self.config.definition(), Registry.installed()
        try:
            require_valid(definition, registry)
        except AnalysisError as error:
            # One analysis with faults must not keep the others from loading.
            return dg.Definitions(assets=[_shown(definition.name, error)])
        return dg.Definitions(assets=[analysis_assets(definition, registry, self.config)])


def asset_key(analysis: str, key: str) -> dg.AssetKey:
    """The asset of an output key."""
    return dg.AssetKey([GROUP, analysis, key])


def analysis_assets(definition: Definition, registry: Registry, config: AnalysisConfig) -> dg.AssetsDefinition:
    """The assets of the output keys. A run stores the whole analysis, and materializes the selected ones."""
    tasks = dg.MetadataValue.md(records_table(definition.as_frame().to_dicts()))
    specs = [
        dg.AssetSpec(
            asset_key(definition.name, key),
            deps=_deps(definition, row),
            description=f"{definition.description or definition.name}: {key}, by {row.func_path}.",
            group_name=GROUP,
            kinds={"polars", "deltalake"},
            owners=config.owners,
            code_version=code_version(registry.get(row.func_path), row.kwargs)[:12],
            metadata={"tasks": tasks},
            automation_condition=_condition(),
            skippable=True,
        )
        for _, row in definition.in_order
        for key in row.output_keys
    ]

    @dg.multi_asset(name=f"analysis_{definition.name}", specs=specs, can_subset=True)
    def materialized(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult[Any]]:
        finished = lake.open().analyses.run(definition, limits=config.limits)
        for key in finished.made:
            if asset_key(definition.name, key) in context.selected_asset_keys:
                yield dg.MaterializeResult(
                    asset_key=asset_key(definition.name, key),
                    data_version=dg.DataVersion(finished.run.outputs[key]["fingerprint"]),
                    metadata=_metadata(finished, key),
                )

    return materialized


def analysis_automation() -> dg.AutomationConditionSensorDefinition:
    """The sensor that updates analyses when a table that they read was updated, on by default."""
    return dg.AutomationConditionSensorDefinition(
        "analyses_automation",
        target=dg.AssetSelection.groups(GROUP),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )


class RunConfig(dg.Config):
    """Which analysis to run, and how."""

    analysis: str = Field(description="Name of the analysis, or name@version.")
    inputs: dict[str, Any] = Field({}, description="Values of input keys, instead of the analysis's own.")
    as_of: str | None = Field(None, description="Read the lake as of this moment (ISO 8601).")
    seconds: float = Field(Limits().seconds, gt=0, description="End the run after this time.")
    megabytes: int = Field(Limits().megabytes, gt=0, description="End the run when it takes more memory.")


@dg.op(description="Runs an analysis of the lake and stores its results.")
def run_one(context: dg.OpExecutionContext, config: RunConfig, lake: LakeResource) -> None:
    opened = lake.open() if config.as_of is None else Lake.present(as_of=config.as_of)
    limits = Limits(config.seconds, config.megabytes)
    finished = opened.analyses.run(config.analysis, config.inputs, limits=limits)
    for key in finished.made:
        # Not an output: the assets of an analysis that no defs.yaml describes are known by what is materialized.
        context.log_event(dg.AssetMaterialization(asset_key(finished.run.name, key), metadata=_metadata(finished, key)))


@dg.job(description="Runs an analysis that is in the lake, or that a defs.yaml describes, with inputs of your own.")
def run_analysis() -> None:
    run_one()


def _deps(definition: Definition, row: Row) -> list[dg.AssetKey]:
    """The assets that a task takes: output keys of others, and the table of the lake that its keyword `table` names."""
    keys = [asset_key(definition.name, key) for key in dict.fromkeys(row.input_keys) if key in definition.output_keys]
    return [*keys, *([dg.AssetKey(str(row.kwargs["table"]).split("."))] if "table" in row.kwargs else [])]


def _condition() -> dg.AutomationCondition[Any]:
    return (
        dg.AutomationCondition.any_deps_updated().since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("news of the input")


def _metadata(finished: Finished, key: str) -> Mapping[str, Any]:
    """What an asset's page shows of a result: its figures, and a chart as a picture."""
    run, value = finished.run, finished.made[key]
    about = run.outputs[key]
    ticker = run.inputs.get("ticker")
    drawn = (
        {"picture": dg.MetadataValue.md(image_markdown(draw(value, str(ticker or "")), value.title))}
        if isinstance(value, Chart)
        else {}
    )
    return {
        "kind": about["kind"],
        "fingerprint": about["fingerprint"],
        "run": run.run_id,
        "version": run.version,
        "inputs": dg.MetadataValue.json(dict(run.inputs)),
        **{figure: value for figure, value in about["figures"].items() if value is not None},
        **drawn,
    }


def _shown(name: str, error: AnalysisError) -> dg.AssetSpec:
    """An asset that nothing makes: its description says why those of the analysis are missing."""
    return dg.AssetSpec(
        [GROUP, name, "defs_yaml"],
        group_name=GROUP,
        description=f"This analysis is left out until its file is corrected.\n\n{error}",
    )
