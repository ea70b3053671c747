"""A causal language model that continues a text: a local folder of `transformers`, nothing is fetched.

The most likely token each time, so the same prompt gives the same answer.  What it writes is not to be trusted: recs/report/polish.py
checks it.
"""
from __future__ import annotations

from pathlib import Path

from .text import TextError, pretrained


class Writer:
    """The model of one folder, loaded once; call it with a prompt."""

    def __init__(self, folder: str | Path, max_new_tokens: int = 120) -> None:
        if not Path(folder, "config.json").is_file():
            raise TextError(f"{folder}: no language model here; give the folder that holds config.json, the weights and the tokenizer")
        self.tokenizer, self.model = pretrained("AutoModelForCausalLM", folder, True, "not a causal language model with its tokenizer")
        self.max_new_tokens = max_new_tokens

    def __call__(self, prompt: str) -> str:
        """What the model says after the prompt; as a chat where the model was made for one.  '' when the prompt does not fit."""
        import torch

        if self.tokenizer.chat_template:
            asked = [{"role": "user", "content": prompt}]
            tokens = self.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        else:
            tokens = self.tokenizer(prompt, return_tensors="pt")
        n = tokens["input_ids"].shape[1]
        room = getattr(self.model.config, "max_position_embeddings", n + self.max_new_tokens) - n
        if n == 0 or room <= 0:
            return ""
        fill = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], do_sample=False,
                max_new_tokens=min(self.max_new_tokens, room), pad_token_id=fill)
        return self.tokenizer.decode(out[0, n:], skip_special_tokens=True)
