"""The table of methods that find an object in a video. A new one is a `Follower` in a file of its own and a line here.
"""
from gi.video.method import Entry

METHODS = {
    "flow": Entry("gi.video.propagate_flow.FlowFollower",
                  "along optical flow, with outlines moved to edges of the image"),
    "internal": Entry("gi.internal.mask_follower.NetworkFollower",
                      "by a network that is fitted to the annotated frames, for some minutes"),
    "both": Entry("gi.internal.mask_follower.CorrectedFlow", "along flow, which such a network corrects"),
}
