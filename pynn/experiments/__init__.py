"""The studies, each a program that a user runs by name and may start from.

A study is a module with the networks and the procedure in pynn's own API, and a generator
`run(setup)`, which yields what is to be run, is sent the results, and returns the report.
"""

STUDIES = {
    "denoiser": "bias initialisation and optimisers on a convolutional denoiser",
    "momentum": "softmax regression: learning rates, momentum, the cost of gradients",
    "faces": "a hidden layer for faces, its width chosen on validation",
    "transfer": "features trained elsewhere, frozen, under a new head",
    "ladder": "four networks from softmax regression to convolution",
    "initialisation": "initial weights of a perceptron, and its gradient checked",
    "search": "72 perceptrons: learning rate, batch size and layers",
    "convnet": "a convolutional network of 206,500 parameters on handwritten digits",
}

__all__ = ["STUDIES"]
