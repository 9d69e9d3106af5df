"""Converts configurations of earlier versions, such as those saved in finished runs, to the current form."""
_COPY = "gi.models.guided_copy.GuidedCopy"
_TERMS = {  # their default weights have not changed
    "l1": {"target": "gi.losses.l1.L1Loss"},
    "adversarial": {"target": "gi.losses.adversarial.AdversarialLoss"},
    "feature_matching": {"target": "gi.losses.feature_matching.FeatureMatchingLoss"},
}


def update(config: dict) -> None:
    """Converts loss and generator of a merged configuration to the current form, in place."""
    model = config.get("model")
    params = model.get("params") if isinstance(model, dict) else None
    if isinstance(params, dict):
        for name, changed in ("objective", _objective), ("generator", _generator):
            if name in params:
                params[name] = changed(params[name], params)


def _objective(node, model):
    """Earlier, weights were parameters of the objective, and terms that need a discriminator were skipped without one.
    """
    params = _params(node, "gi.losses.objective.Objective")
    if params is None:
        return node
    names = "known", "missing", "adversarial", "feature_matching", "perceptual", "r1"
    old = {name: params.pop(name) for name in names if name in params}
    if "terms" in params and not old:
        return node
    terms = {**(params.pop("terms", None) or _TERMS)}
    if {"known", "missing"} & old.keys():
        l1 = {"weight": 10.0, "known": 1.0, "missing": 0.0} | (_params(terms.get("l1"), _TERMS["l1"]["target"]) or {})
        weights = {name: old.pop(name, float(l1["weight"]) * float(l1[name])) for name in ("known", "missing")}
        terms["l1"] = {**_TERMS["l1"], "params": {"weight": 1.0, **weights}}
    if "r1" in old:
        params["discriminator"] = {"target": "gi.losses.discriminator.DiscriminatorLoss",
                                   "params": {"r1": old.pop("r1")}}
    for name, value in old.items():
        terms[name] = {**_TERMS[name], "params": {"weight": value}} if name in _TERMS else value
    if not model.get("discriminator"):
        terms |= {"adversarial": None, "feature_matching": None}
    return {**node, "params": {**params, "terms": terms}}


def _generator(node, model):
    """Earlier, copying from keyframes was part of the two-stream generator, or a generator of its own."""
    if (params := _params(node, "gi.models.trusted_copy.TrustedCopy")) is not None:
        return {"target": _COPY, "params": params}
    params = _params(node, "gi.models.two_stream.TwoStreamGenerator") or {}
    own = {name: params.pop(name) for name in ("pixel_write", "pixel_width", "smooth_start") if name in params}
    if not own:
        return node
    network = {**node, "params": params}
    if not own.pop("pixel_write", False):
        return network
    own.setdefault("pixel_width", 24)
    if own.setdefault("smooth_start", False):
        del own["smooth_start"]  # now the default
    return {"target": _COPY, "params": {**own, "network": network}}


def _params(node, target):
    """A copy of the parameters of a node of that target, otherwise None."""
    if not isinstance(node, dict) or node.get("target") != target:
        return None
    params = node.get("params") or {}
    return dict(params) if isinstance(params, dict) else None
