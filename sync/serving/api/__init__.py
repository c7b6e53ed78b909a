"""The HTTP surface that hub and sites share: OpenAI's bodies, answers and errors, and the server that speaks them."""
