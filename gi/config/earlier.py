"""Configurations of earlier versions, such as those that finished runs have kept, in the form of today."""
_COPY = "gi.models.guided_copy.GuidedCopy"
_TERMS = {"adversarial": "gi.losses.adversarial.AdversarialLoss",
          "feature_matching": "gi.losses.feature_matching.FeatureMatchingLoss"}


def update(config: dict) -> None:
    """Describes loss and generator of a merged configuration as they are described now, in place."""
    model = config.get("model")
    params = model.get("params") if isinstance(model, dict) else None
    if isinstance(params, dict):
        for name, changed in ("objective", _objective), ("generator", _generator):
            if name in params:
                params[name] = changed(params[name], params)


def _objective(node, model):
    """Weights were parameters of the objective. Without a discriminator, what needs one was left out."""
    old = _params(node, "gi.losses.objective.Objective")
    if old is None or "terms" in old:
        return node
    weights = {"known": 10.0, "missing": 0.0, "adversarial": 10.0, "feature_matching": 100.0, "r1": 0.001}
    weights = {name: old.pop(name, default) for name, default in weights.items()}
    l1 = {"weight": 1.0, "known": weights["known"], "missing": weights["missing"]}
    terms = {"l1": {"target": "gi.losses.l1.L1Loss", "params": l1}}
    for name, target in _TERMS.items():
        if weights[name] and model.get("discriminator"):
            terms[name] = {"target": target, "params": {"weight": weights[name]}}
    terms["perceptual"] = old.pop("perceptual", None)
    loss = {"target": "gi.losses.discriminator.DiscriminatorLoss", "params": {"r1": weights["r1"]}}
    return {**node, "params": {"terms": terms, "discriminator": loss, **old}}


def _generator(node, model):
    """Copying from keyframes was a part of the two-stream generator, or was alone."""
    if (old := _params(node, "gi.models.trusted_copy.TrustedCopy")) is not None:
        return {"target": _COPY, "params": old}
    old = _params(node, "gi.models.two_stream.TwoStreamGenerator") or {}
    own = {name: old.pop(name) for name in ("pixel_write", "pixel_width", "smooth_start") if name in old}
    if not own:
        return node
    network = {**node, "params": old}
    if not own.pop("pixel_write", False):
        return network
    own = {"pixel_width": 24, "smooth_start": False} | own
    return {"target": _COPY, "params": {**own, "network": network}}


def _params(node, target):
    """A copy of the parameters of a node of that target, otherwise None."""
    if not isinstance(node, dict) or node.get("target") != target:
        return None
    params = node.get("params") or {}
    return dict(params) if isinstance(params, dict) else None
