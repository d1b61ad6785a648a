"""Checks of the claims of a config against the catalogue of claims, which says what each test takes."""

from collections.abc import Mapping, Sequence

from intrinsic_lr.core.errors import InputError, prefixed
from intrinsic_lr.core.user_code import checked_sum
from intrinsic_lr.study.claims import CLAIMS, Claim
from intrinsic_lr.study.config_types import unknown, validate
from intrinsic_lr.study.schema import SETTING_TYPES, ClaimConfig, Config


def check_claim(name: str, config: Config) -> None:
    """Refuse a claim that nobody states, or one that is not given exactly what its test takes."""
    place = f"config: claims.{name}"
    given = config.claims[name]
    if given.file:
        if name in CLAIMS:
            raise InputError(f"{place}.file: expected another name than {name!r}, which the project has")
        _check_roles({}, given, config, place)
        return
    if name not in CLAIMS:
        raise InputError(f"config: claims: {unknown('claim', name, CLAIMS)}")
    claim = CLAIMS[name]
    for part in ("experiments", "thresholds", "settings"):
        needed, keys = getattr(claim, part), getattr(given, part)
        for key in keys:
            if key not in needed:
                raise InputError(f"{place}.{part}: {unknown('key', key, needed)}")
        for key, meaning in needed.items():
            if key not in keys:
                meaning = getattr(meaning, "meaning", meaning)
                raise InputError(f"{place}.{part}: the key {key!r} is missing ({meaning})")
    _check_roles(claim.tables, given, config, place)
    _check_thresholds(claim, given, place)
    _check_settings(claim, given, config, place)


def own_claim(name: str, given: ClaimConfig) -> Claim:
    """Return what a config states of a claim of its own; raises as `checked_sum`."""
    with prefixed(f"config: claims.{name}."):
        own = given.file, checked_sum(given.file, "measure", "judge", "draw")
    return Claim(
        title=given.title or name.replace("_", " "),
        board="addition",
        question=given.question,
        statement=given.statement,
        source=given.source,
        refuted_by=given.refuted_by,
        experiments=dict.fromkeys(given.experiments, ""),
        files=tuple(given.reads),
        needs_invariance=given.needs_invariance,
        reads_data=given.reads_data,
        own=own,
    )


def _check_roles(tables: Mapping[str, Sequence[str]], given: ClaimConfig, config: Config, place: str) -> None:
    for role, name in given.experiments.items():
        if name not in config.experiments:
            raise InputError(f"{place}.experiments.{role}: {unknown('experiment', name, config.experiments)}")
        for table in tables.get(role, ()):
            # A table is called as its analysis, or begins with its name: distance, distance_across.
            analysis = table.split("_")[0]
            if analysis not in config.experiments[name].analyses:
                raise InputError(
                    f"{place}.experiments.{role}: expected one with the analysis {analysis!r}, got {name!r}"
                )


def _check_thresholds(claim: Claim, given: ClaimConfig, place: str) -> None:
    """Refuse thresholds out of range, or a lower bound above its upper one."""
    values = {key: threshold.value for key, threshold in given.thresholds.items()}
    for key, threshold in claim.thresholds.items():
        validate(SETTING_TYPES[threshold.kind], values[key], f"{place}.thresholds.{key}.value")
    for key, threshold in claim.thresholds.items():
        if threshold.below and not values[key] < values[threshold.below]:
            bound = f"{threshold.below}, {values[threshold.below]:g}"
            raise InputError(f"{place}.thresholds.{key}.value: expected less than {bound}, got {values[key]:g}")


def _check_settings(claim: Claim, given: ClaimConfig, config: Config, place: str) -> None:
    """Refuse settings of another type, that do not go together, or that name what the config does not have."""
    settings = given.settings
    for key, setting in claim.settings.items():
        here, value = f"{place}.settings.{key}", settings[key]
        validate(SETTING_TYPES[setting.kind], value, here)
        if setting.of_each and len(value) != len(settings[setting.of_each]):
            count = len(settings[setting.of_each])
            raise InputError(f"{here}: expected {count}, one for each of {setting.of_each}, got {len(value)}")
        if setting.among and value not in settings[setting.among]:
            known = ", ".join(map(str, settings[setting.among]))
            raise InputError(f"{here}: expected one of {setting.among}, {known}, got {value}")
        smallest = min(value) if isinstance(value, list) else value
        if setting.at_least is not None and smallest < setting.at_least:
            raise InputError(f"{here}: expected a number from {setting.at_least:g} on, got {smallest:g}")
        if key in _NAMES:
            known = getattr(config, _NAMES[key])
            for name in value if isinstance(value, list) else [value]:
                if name not in known:
                    raise InputError(f"{here}: {unknown(_NAMES[key].removesuffix('s'), name, known)}")


_NAMES = {"dataset": "datasets", "model": "models", "models": "models"}


def check_judge(config: Config, run: Sequence[str]) -> None:
    """Refuse claims asked for by name that are not configured, or whose experiments are not run."""
    for name in [] if config.judge == "all" else config.judge:
        if name not in config.claims:
            raise InputError(f"config: judge: {unknown('claim', name, config.claims)}")
        for experiment in config.claims[name].experiments.values():
            if experiment not in run:
                raise InputError(
                    f"config: judge: the claim {name!r} needs the experiment {experiment!r}, which is not run; "
                    f"expected claims of {', '.join(run)}"
                )
