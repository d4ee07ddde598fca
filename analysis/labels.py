"""Names for runs that stand side by side: what differs between their configurations."""

POLICY_KEYS = ("router.policy", "migration.policy", "cache.eviction")
# Where the record goes and how runs are identified never tells two runs apart.
IGNORED_KEYS = ("record.path",)


def differing_keys(runs):
    """Configuration keys whose value is not the same in all runs; policies first."""
    keys = {key for run in runs for key in run.config if key not in IGNORED_KEYS}
    differing = [k for k in keys if len({repr(run.config.get(k)) for run in runs}) > 1]
    return sorted(differing, key=lambda k: (_policy_rank(k), k))


def _policy_rank(key):
    return POLICY_KEYS.index(key) if key in POLICY_KEYS else len(POLICY_KEYS)


def labels(runs):
    """One label per run, all different. Policies that differ name a run; other settings join only
    when policies do not tell the runs apart, the file's name when nothing does."""
    if len(runs) == 1:
        return [runs[0].name]
    differing = differing_keys(runs)
    policies = [key for key in differing if key in POLICY_KEYS]
    if "cache.enabled" in differing:
        policies.append("cache.enabled")
    others = [key for key in differing if key not in policies]
    for keys in (policies, policies + others[:3]):
        names = [" + ".join(_word(key, run) for key in keys) for run in runs]
        if keys and len(set(names)) == len(runs):
            return names
    names = [f"{name} ({run.name})".strip() for name, run in zip(names, runs)]
    names = [run.name for run in runs] if not differing else names
    if len(set(names)) == len(runs):
        return names
    return [f"{name} [{i + 1}]" for i, name in enumerate(names)]


def _word(key, run):
    value = run.config.get(key, "?")
    if key == "migration.policy":
        return "no migration" if value == "off" else str(value)
    if key in POLICY_KEYS:
        return str(value)
    if key == "cache.enabled":
        return "cache off" if value in (False, 0, "false") else "cache on"
    return f"{key.rsplit('.', 1)[-1]} {value}"
