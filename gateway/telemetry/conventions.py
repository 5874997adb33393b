"""Names of attributes, as the semantic conventions of OpenTelemetry have them.

HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (stable). GenAI:
https://github.com/open-telemetry/semantic-conventions-genai (development, as of 2026). What no
convention knows begins with `gateway.`.
"""

from __future__ import annotations

from typing import Final

HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_FULL: Final = "url.full"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

#: Methods that have a name of their own in spans, and what all others are called.
HTTP_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
OTHER_METHOD: Final = "_OTHER"

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"

#: The conventions have no operation for pictures alone; this is theirs for what is not only text.
GENERATE_CONTENT: Final = "generate_content"
IMAGE: Final = "image"

TEAM: Final = "gateway.team"
TASK: Final = "gateway.task"
RENDER: Final = "gateway.render"
REQUEST_ID: Final = "gateway.request_id"
MODEL: Final = "gateway.model"
PROVIDER: Final = "gateway.provider"
OPERATION: Final = "gateway.operation"
SIZE: Final = "gateway.size"
QUALITY: Final = "gateway.quality"
CODE: Final = "gateway.code"
STATE: Final = "gateway.state"
TRIES: Final = "gateway.tries"
POLLS: Final = "gateway.polls"
JOINED: Final = "gateway.joined"
ADOPTED: Final = "gateway.adopted"
MOVED: Final = "gateway.moved"
COST_MICROUSD: Final = "gateway.cost_microusd"
