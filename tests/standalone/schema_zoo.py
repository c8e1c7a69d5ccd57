"""One node that uses every wire type and option of `standalone.schema`.

`schema_zoo.json` is what a real ComfyUI 0.21 says of it, `zoo(io).GET_NODE_INFO_V1()` with
`from comfy_api.latest import io`.
"""


def zoo(io):
    """The node class, defined against this `io`."""
    widgets = [
        io.Int.Input("i", "An Int", default=1, min=0, max=9, step=2, control_after_generate=True),
        io.Int.Input("slider", default=1, display_mode=io.NumberDisplay.slider, advanced=True),
        io.Float.Input("f", default=0.5, min=0.0, max=1.0, step=0.1, round=0.01, tooltip="A float"),
        io.String.Input("s", default="", multiline=True, dynamic_prompts=True, placeholder="..."),
        io.Boolean.Input("b", default=True, label_on="yes", label_off="no", socketless=True),
        io.Combo.Input("c", options=["x", "y"], default="y", upload=io.UploadType.video),
        io.Combo.Input("e", options=io.FolderType, default=io.FolderType.temp),
        io.Float.Input("forced", force_input=True, lazy=True, optional=True),
    ]
    wires = [
        io.Image,
        io.Mask,
        io.Latent,
        io.Conditioning,
        io.Sigmas,
        io.Model,
        io.Clip,
        io.Vae,
        io.Audio,
        io.Video,
        io.AnyType,
        io.Custom("MINE"),
    ]
    sockets = [wire.Input(wire.io_type.lower(), extra_dict={"extra": 1}) for wire in wires]
    several = io.MultiType.Input("several", [io.Video, io.Image, io.Video], optional=True)

    class Zoo(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema(
                node_id="Zoo",
                display_name="The Zoo",
                category="animals",
                inputs=[*widgets, *sockets, several],
                outputs=[
                    *(wire.Output() for wire in wires),
                    io.Int.Output("n", display_name="number", tooltip="How many"),
                    io.Float.Output("many", is_output_list=True),
                ],
                hidden=[io.Hidden.unique_id],
                description="Every kind.",
                search_aliases=["menagerie"],
                is_input_list=True,
                is_output_node=True,
                is_deprecated=True,
                is_experimental=True,
                essentials_category="Basics",
            )

        @classmethod
        def execute(cls, **inputs):
            return io.NodeOutput()

    return Zoo
