"""Makes golden files for training: losses, gradients and weights after AdamW steps, computed by PyTorch.

Two of the tiny models of data/tiny are loaded by transformers in float32 with eager attention. Per model, data/training/NAME.safetensors holds

  tokens [2, 40] I32            two sequences
  loss, gradient.TENSOR         cross-entropy of the next token, and its gradient by every weight; every third value of
                                tensors with more than 2000, in this program's names and order
  steps.loss, after.TENSOR      the losses of four AdamW steps on the same tokens with gradients clipped to a norm of 0.5, and
                                every seventh value of the weights after them
  head_output.LAYER, ffn.LAYER  gradients by the inputs of o_proj and (in a dense layer) down_proj
  teacher.logits, teacher.hidden, kd.NAME, kd.NAME.gradient
                                random outputs of a teacher, the loss of a student by three objectives, and every seventh
                                value of the gradient of the first layer's query projection

Run: python3 tests/golden/training_reference.py --out tests/golden/data/training
Needs: torch 2.15.0, transformers 5.24.0, safetensors.
"""

import argparse
import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F
import transformers

HERE = pathlib.Path(__file__).parent
MODELS = ["gpt-oss-f32", "llama-tied-f32"]
LEARNING_RATE, BETAS, EPS, DECAY, CLIP = 3e-3, (0.9, 0.95), 1e-8, 0.1, 0.5


def load(name):
    path = HERE / "data" / "tiny" / name
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    return model.train()


def own_tensors(name, value):
    """The names and values that this program has for a tensor of transformers."""
    if name.endswith("experts.gate_up_proj"):
        prefix = name.removesuffix("gate_up_proj")
        turned = value.transpose(1, 2)
        return {f"{prefix}gate_proj.weight": turned[:, 0::2], f"{prefix}up_proj.weight": turned[:, 1::2]}
    if name.endswith("experts.gate_up_proj_bias"):
        prefix = name.removesuffix("gate_up_proj_bias")
        return {f"{prefix}gate_proj.bias": value[:, 0::2], f"{prefix}up_proj.bias": value[:, 1::2]}
    if name.endswith("experts.down_proj"):
        return {f"{name}.weight": value.transpose(1, 2)}
    if name.endswith("experts.down_proj_bias"):
        return {f"{name.removesuffix('_bias')}.bias": value}
    return {name: value}


def sampled(value, step):
    flat = value.detach().contiguous().flatten()
    return flat[::step].clone() if flat.numel() > 2000 or step == 7 else flat.clone()


def cross_entropy(model, tokens):
    logits = model(tokens).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def decays(name):
    """Matrices do; norms, biases and sinks don't."""
    return "norm" not in name and "bias" not in name and "sinks" not in name


def distillation(model, tokens, teacher_logits, teacher_hidden):
    """Losses by three objectives."""
    output = model(tokens, output_hidden_states=True)
    student, teacher = output.logits[:, :-1].flatten(0, 1), teacher_logits.view_as(output.logits)[:, :-1].flatten(0, 1)
    hard = F.cross_entropy(student, tokens[:, 1:].flatten())

    def divergence(student, teacher, temperature):
        own, other = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
        return F.kl_div(own, other, log_target=True, reduction="batchmean") * temperature**2

    chosen = teacher.topk(8, dim=-1).indices
    # transformers' last hidden state is behind the final norm, so the layers' outputs are caught where they arise.
    layers = [F.mse_loss(found.flatten(0, 1), expected) for found, expected in zip(CAUGHT, teacher_hidden)]
    return {
        "full": 0.7 * divergence(student, teacher, 2.0) + 0.3 * hard,
        "top8": divergence(student.gather(1, chosen), teacher.gather(1, chosen), 1.5),
        "hidden": divergence(student, teacher, 1.0) + 3.0 * sum(layers) / len(layers),
    }


CAUGHT = []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    for name in MODELS:
        model = load(name)
        tokens = torch.randint(3, model.config.vocab_size, (2, 40))
        golden = {"tokens": tokens.to(torch.int32)}

        inputs = {}
        hooks = []
        for index, layer in enumerate(model.model.layers):
            parts = [("head_output", layer.self_attn.o_proj)]
            if hasattr(layer.mlp, "down_proj"):
                parts.append(("ffn", layer.mlp.down_proj))
            for part, module in parts:

                def keep(_, arguments, key=f"{part}.{index}"):
                    arguments[0].retain_grad()
                    inputs[key] = arguments[0]

                hooks.append(module.register_forward_pre_hook(keep))
        loss = cross_entropy(model, tokens)
        loss.backward()
        for hook in hooks:
            hook.remove()
        golden["loss"] = loss.detach().reshape(1)
        for parameter_name, parameter in model.named_parameters():
            for own, value in own_tensors(parameter_name, parameter.grad).items():
                golden[f"gradient.{own}"] = sampled(value, 3)
        for key, value in inputs.items():
            golden[key] = value.grad.flatten().clone()

        teacher_logits = 2.0 * torch.randn(tokens.numel(), model.config.vocab_size)
        teacher_hidden = torch.randn(len(model.model.layers), tokens.numel(), model.config.hidden_size)
        golden["teacher.logits"], golden["teacher.hidden"] = teacher_logits, teacher_hidden
        for layer in model.model.layers:
            layer.register_forward_hook(lambda _, __, output: CAUGHT.append(output[0] if isinstance(output, tuple) else output))
        for objective in ["full", "top8", "hidden"]:
            CAUGHT.clear()
            model.zero_grad()
            loss = distillation(model, tokens, teacher_logits, teacher_hidden)[objective]
            loss.backward()
            golden[f"kd.{objective}"] = loss.detach().reshape(1)
            golden[f"kd.{objective}.gradient"] = sampled(model.model.layers[0].self_attn.q_proj.weight.grad, 7)

        model = load(name)
        groups = {True: [], False: []}
        for parameter_name, parameter in model.named_parameters():
            groups[decays(parameter_name)].append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": groups[True], "weight_decay": DECAY}, {"params": groups[False], "weight_decay": 0.0}],
            lr=LEARNING_RATE,
            betas=BETAS,
            eps=EPS,
        )
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = cross_entropy(model, tokens)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item())
        golden["steps.loss"] = torch.tensor(losses)
        for parameter_name, parameter in model.named_parameters():
            for own, value in own_tensors(parameter_name, parameter).items():
                golden[f"after.{own}"] = sampled(value, 7)
        safetensors.torch.save_file({key: value.contiguous() for key, value in golden.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    main()
