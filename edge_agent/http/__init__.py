"""The site's own API: OpenAI's endpoints, the Open Inference Protocol, and what operators look at."""
