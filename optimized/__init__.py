"""The loss in torch, batched and fused, lands here; so far there is nothing in it."""
