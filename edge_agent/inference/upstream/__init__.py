"""An OpenAI-compatible server as a deployment, for zones where that is how models are served.

`egress` says where requests may go at all; `breaker` when to stop asking; `engine` asks.
"""
