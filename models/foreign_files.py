"""What files that are no use here hold: told by tensors that only they have."""

from __future__ import annotations

from collections.abc import Iterable

# A tensor's name, whole or its end -> whose it is; the first that is found counts.
LORA = {
    end: "LoRA"
    for end in (
        "lora_A.weight",
        "lora_A.default.weight",
        "lora_down.weight",
        "lora.down.weight",
        "hada_w1_a",
        "lokr_w1",
        "diff",
        "diff_b",
    )
}
OTHER_WANS = {
    "ref_conv.weight": "Wan Fun with a reference image",
    "control_adapter.conv.weight": "Wan Fun with camera control",
    "face_adapter.fuser_blocks.0.k_norm.weight": "Wan Animate",
    "casual_audio_encoder.encoder.final_linear.weight": "Wan S2V",
    "audio_proj.audio_proj_glob_1.layer.bias": "HuMo",
    "audio_proj.proj1.weight": "MultiTalk",
    "patch_embedding_pose.weight": "Wan SCAIL",
    "patch_embedding_global.weight": "Wan dancer",
    "fps_embedding.weight": "SkyReels with frame-rate embedding",
}
OTHER_MODELS = {
    "audio_adaln_single.linear.weight": "LTX-2",
    "adaln_single.emb.timestep_embedder.linear_1.weight": "LTX-Video or PixArt",
    "scale_shift_table_a2v_ca_audio": "LTX-2",
    "txt_in.individual_token_refiner.blocks.0.norm1.weight": "HunyuanVideo",
    "context_embedder.token_refiner.refiner_blocks.0.norm1.weight": "HunyuanVideo",
    "t5_yproj.weight": "Mochi",
    "transformer_blocks.0.norm1_context.linear_1.weight": "Mochi",
    "blocks.0.norm1.linear.weight": "CogVideoX",
    "mixins.adaln_layer.adaLN_modulations.0.1.weight": "CogVideoX",
    "blocks.block0.blocks.0.block.attn.to_q.0.weight": "Cosmos",
    "blocks.0.mlp.layer1.weight": "Cosmos Predict 2",
    "visual_transformer_blocks.0.cross_attention.key_norm.weight": "Kandinsky 5",
    "double_blocks.0.img_attn.norm.key_norm.scale": "Flux",
    "double_blocks.0.img_attn.norm.key_norm.weight": "Flux",
    "single_transformer_blocks.0.attn.norm_k.weight": "Flux",
    "joint_blocks.0.context_block.attn.qkv.weight": "Stable Diffusion 3",
    "input_blocks.0.0.weight": "Stable Diffusion",
    "down_blocks.0.resnets.0.time_emb_proj.weight": "Stable Diffusion",
    "transformer_blocks.0.img_mod.1.weight": "Qwen-Image",
    "noise_refiner.0.attention.k_norm.weight": "Lumina 2 or Z-Image",
    "genre_embedder.weight": "ACE-Step",
}
AUTOENCODERS = {
    "per_channel_statistics.mean-of-means": "LTX-Video autoencoder",
    "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": "LTX-Video autoencoder",
    "decoder.mid_block.resnets.0.norm1.norm_layer.weight": "CogVideoX autoencoder",
    "decoder.conv_in.conv.weight": "HunyuanVideo or LTX-Video autoencoder",
    "decoder.mid.block_1.mix_factor": "Stable Video Diffusion autoencoder",
    "decoder.mid.block_1.conv1.weight": "Stable Diffusion or Flux autoencoder",
    "decoder.mid_block.resnets.0.norm1.weight": "Stable Diffusion or Flux autoencoder",
    "decoder.blocks.2.blocks.3.stack.5.weight": "Mochi autoencoder",
    "blocks.2.blocks.3.stack.5.weight": "Mochi autoencoder",
    "decoder.unpatcher3d.wavelets": "Cosmos autoencoder",
    "decoder.22.bias": "TAEHV preview autoencoder",
    "taesd_decoder.1.weight": "TAESD preview autoencoder",
}
WAN_AUTOENCODERS = {
    "decoder.middle.0.residual.0.gamma": "Wan autoencoder",
    "decoder.mid_block.resnets.0.norm1.gamma": "Wan autoencoder",
}
WAN_TRANSFORMERS = {"head.modulation": "Wan transformer", "scale_shift_table": "Wan transformer"}
ENCODERS = {
    "encoder.block.0.layer.0.SelfAttention.k.weight": "T5 text encoder",
    "blocks.0.pos_embedding.embedding.weight": "umT5 text encoder",
    "token_embd.weight": "text encoder",
    "text_model.encoder.layers.0.mlp.fc1.weight": "CLIP text encoder",
    "vision_model.encoder.layers.0.mlp.fc1.weight": "CLIP vision encoder",
    "visual.transformer.0.attn.to_qkv.weight": "CLIP vision encoder",
    "visual.transformer.resblocks.0.attn.in_proj_weight": "CLIP vision encoder",
    "layers.0.post_attention_layernorm.weight": "language model or text encoder",
}

NO_MODEL = {**LORA, **OTHER_WANS, **OTHER_MODELS, **AUTOENCODERS, **WAN_AUTOENCODERS, **ENCODERS}
NO_AUTOENCODER = {
    **LORA,
    **{name: f"{what} transformer" for name, what in OTHER_WANS.items()},
    **OTHER_MODELS,
    **AUTOENCODERS,
    **ENCODERS,
    **WAN_TRANSFORMERS,
}


def what_else(names: Iterable[str], table: dict[str, str]) -> str:
    """What the table says that tensors of these names belong to; empty if it says nothing."""
    ends = set()
    for name in names:
        parts = name.split(".")
        ends.update(".".join(parts[start:]) for start in range(len(parts)))
    return next((what for end, what in table.items() if end in ends), "")
