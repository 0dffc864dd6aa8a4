"""The rules of judgements, as DuckDB queries: what is proposed, and what decisions say."""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule
from lakehouse.derive.two_times import Versions, day_of, history
from lakehouse.lake.sql import Query, Relation, literal, relation_of

LEAST_SCORE = 0.9
"""Similarity (Jaro-Winkler, of names without legal forms) from which on an entity is proposed."""
_KEY = ("scheme", "value", "subject")
DECIDED = RevisionRule(key=(*_KEY, "decided_at"), content=("score", "decision", "decided_by"), part="part")
_LEGAL_FORMS = (
    *(
        "AB",
        "AG",
        "AKTIENGESELLSCHAFT",
        "AS",
        "ASA",
        "BV",
        "CO",
        "COMPANY",
        "CORP",
        "CORPORATION",
        "GMBH",
        "INC",
        "INCORPORATED",
        "KG",
    ),
    *("KGAA", "LIMITED", "LLC", "LLP", "LP", "LTD", "NV", "OY", "OYJ", "PLC", "SA", "SAS", "SE", "SPA", "SRL"),
)


def identifiers(rows: Relation, source: str) -> Query:
    """What identifiers stand for by confirmed judgements, from the day of the decision until it is rejected."""
    timed = f"""
        SELECT *, {literal(source)} AS source, decided_at AS published, {day_of("decided_at")} AS effective,
            decision <> 'confirmed' AS is_removed
        FROM {rows}
    """
    versions = Versions(key=_KEY, content=(), further=("source", "object", "row_number"))
    return Query(f"SELECT *, 'lei' AS subject_scheme FROM ({history(relation_of(timed), versions)})")


def proposals(names: Relation, entities: Relation) -> Query:
    """Pairs of identifiers and entities with similar names. Only names with the same first word are compared.

    Args:
        names: scheme, value, name.
        entities: lei, legal_name.
    """
    return Query(f"""
        WITH named AS (SELECT *, {_bare("name")} AS bare FROM {names} WHERE name IS NOT NULL),
        entity AS (SELECT lei, legal_name, {_bare("legal_name")} AS bare FROM {entities})
        SELECT scheme, value, any_value(name) AS name, lei AS subject, any_value(legal_name) AS subject_name,
            max(round(jaro_winkler_similarity(named.bare, entity.bare), 3)) AS score
        FROM named JOIN entity ON split_part(named.bare, ' ', 1) = split_part(entity.bare, ' ', 1)
        WHERE named.bare <> '' AND jaro_winkler_similarity(named.bare, entity.bare) >= {LEAST_SCORE}
        GROUP BY scheme, value, lei
    """)


def judgements(proposed: Relation, decisions: Relation) -> Query:
    """The rows of `judgements`: proposals with their newest decisions, and decisions about what is proposed no more."""
    return Query(f"""
        WITH newest AS (
            SELECT * FROM {decisions}
            QUALIFY row_number() OVER (PARTITION BY {", ".join(_KEY)} ORDER BY decided_at DESC) = 1
        )
        SELECT {", ".join(_KEY)}, name, subject_name, coalesce(proposal.score, newest.score) AS score,
            coalesce(decision, 'proposed') AS decision, decided_by, decided_at
        FROM {proposed} AS proposal FULL JOIN newest USING ({", ".join(_KEY)})
    """)


def _bare(name: str) -> str:
    """The SQL expression for a name in capitals, without accents, signs and legal forms."""
    capitals = f"replace(upper(strip_accents({name})), '.', '')"
    words = f"string_split(trim(regexp_replace({capitals}, '[^A-Z0-9]+', ' ', 'g')), ' ')"
    forms = ", ".join(literal(form) for form in _LEGAL_FORMS)
    return f"array_to_string(list_filter({words}, lambda word: word NOT IN ({forms})), ' ')"
