"""MXNet's side of the comparison. Runs under Python 3.11 with mxnet 1.9.1 and numpy 1.23.5, without the service's code.

Reads one JSON request a line and answers with one JSON line. Arrays are in .npz files.
"""

import json
import logging
import os
import sys
import time
import traceback

import decoding
import numpy as np

if not hasattr(np, "bool"):  # MXNet 1.9.1 uses a name that NumPy dropped in 1.24. With the name, NumPy 1.26 works too.
    np.bool = bool
import mxnet as mx

logging.disable(logging.WARNING)
FUSING = "MXNET_SUBGRAPH_BACKEND"
AUXILIARY = ("moving_mean", "moving_var", "running_mean", "running_var")


def load(request):
    """Return the network bound to its parameters, cut at the node `output` if given (as insightface cuts at fc1)."""
    network = mx.sym.load(request["symbol"])
    if request.get("output"):
        network = network.get_internals()[request["output"] + "_output"]
    saved = mx.nd.load(request["parameters"])
    values = {name.split(":", 1)[-1]: array for name, array in saved.items()}
    arguments = {name: values[name] for name in network.list_arguments() if name != "data"}
    auxiliary = {name: values[name] for name in network.list_auxiliary_states()}
    return network, arguments, auxiliary


def run(loaded, pictures):
    """Return all outputs for images of shape (n, 3, height, width)."""
    network, arguments, auxiliary = loaded
    bound = network.bind(mx.cpu(), {**arguments, "data": mx.nd.array(pictures)}, aux_states=auxiliary, grad_req="null")
    return [output.asnumpy() for output in bound.forward(is_train=False)]


def initialize(request):
    """Make random parameters for a symbol without parameters, scaled so that numbers neither vanish nor explode."""
    network = mx.sym.load(request["symbol"])
    shapes, _, auxiliary_shapes = network.infer_shape(data=(1, 3, 112, 112))
    random, saved = np.random.default_rng(request["seed"]), {}
    for name, shape in zip(network.list_arguments(), shapes, strict=True):
        if name != "data":
            saved["arg:" + name] = mx.nd.array(random_values(random, name, shape))
    for name, shape in zip(network.list_auxiliary_states(), auxiliary_shapes, strict=True):
        saved["aux:" + name] = mx.nd.array(random_values(random, name, shape))
    mx.nd.save(request["parameters"], saved)
    return {}


def random_values(random, name, shape):
    if name.endswith(("gamma", "var")):
        low, high = (0.1, 0.4) if "relu" in name else (0.5, 1.5)
        return random.uniform(low, high, shape)
    if name.endswith("weight"):
        return random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return random.standard_normal(shape) * 0.1


def forward(request):
    """Write the outputs of one network for arrays by name into one file: `NAME/NUMBER`."""
    loaded, found = load(request), {}
    for name, pictures in np.load(request["inputs"]).items():
        for number, output in enumerate(run(loaded, pictures)):
            found[f"{name}/{number}"] = output
    np.savez(request["outputs"], **found)
    return {}


def detect(request):
    """Write boxes, scores and landmarks of each image (height, width, 3), RGB: `NAME/boxes` and so on."""
    loaded, found = load(request), {}
    for name, picture in np.load(request["inputs"]).items():
        maps = run(loaded, picture.transpose(2, 0, 1)[None].astype(np.float32))
        boxes, scores, landmarks = decoding.decode(maps, request["landmark_scale"])
        found.update({f"{name}/boxes": boxes, f"{name}/scores": scores, f"{name}/landmarks": landmarks})
    np.savez(request["outputs"], **found)
    return {}


def measure(request):
    """Return the seconds of each of at least `rounds` runs over all inputs, after a warm-up run.

    Layers are fused, which is MXNet's default, or not fused if 1.9.1 fails at the second run of the fused network.
    """
    try:
        return {"seconds": seconds(request), "fused": True}
    except mx.base.MXNetError:
        os.environ[FUSING] = "NONE"
        try:
            return {"seconds": seconds(request), "fused": False}
        finally:
            del os.environ[FUSING]


def seconds(request):
    network, arguments, auxiliary = load(request)
    bound = []
    for pictures in np.load(request["inputs"]).values():
        data = mx.nd.array(pictures)
        bound.append(network.bind(mx.cpu(), {**arguments, "data": data}, aux_states=auxiliary, grad_req="null"))
    found = []
    while len(found) <= request["rounds"] or sum(found) < request["least_seconds"]:
        start = time.perf_counter()
        for each in bound:
            for output in each.forward(is_train=False):
                output.asnumpy()
        found.append(time.perf_counter() - start)
    return found[1:]


def save(request):
    """Write arrays as MXNet writes them, plain and with NumPy's shapes, and a symbol as MXNet writes it again."""
    arrays = dict(np.load(request["inputs"]))
    with mx.util.np_shape(request["numpy_shapes"]):
        mx.nd.save(request["parameters"], {name: mx.nd.array(v, dtype=v.dtype) for name, v in arrays.items()})
    return {}


COMMANDS = {"initialize": initialize, "forward": forward, "detect": detect, "measure": measure, "save": save}


def main():
    print(json.dumps({"mxnet": mx.__version__, "numpy": np.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = COMMANDS[request["command"]](request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
