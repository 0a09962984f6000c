"""The table of operations: what the inference API serves, and what each call needs."""

from __future__ import annotations

import dataclasses

from inferno.core.tenancy import LimitOverrides, Permission
from inferno.server import (
    audit,
    auth,
    batches,
    chat,
    completions,
    embeddings,
    files,
    inference,
    metrics,
    models,
    openai_batches,
    service,
    traces,
    webhooks,
)
from inferno.server.openai_batches import OpenAIBatchRequest
from inferno.server.operation import Operation
from inferno.server.types import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    InferenceRequest,
    LoadRequest,
)
from inferno.telemetry.custom_metrics import Report
from inferno.tenancy.types import ApiKeyChange, NewUser, UserChange
from inferno.webhooks.types import NewSecret, NewWebhook, WebhookChange

INFER = Permission.RUN_INFERENCE
READ = Permission.READ_MODELS
WRITE = Permission.WRITE_MODELS
USERS = Permission.MANAGE_USERS
AUDIT = Permission.VIEW_AUDIT_LOGS
WATCH = Permission.READ_METRICS
CONFIGURE = Permission.WRITE_CONFIG

COMPLETION = "A completion with its usage, or Server-Sent Events of its pieces."
EVENTS = "Server-Sent Events, each one JSON object."
HTML = "HTML."
METRICS = "Prometheus' text format, or OpenMetrics."

# fmt: off
OPENAI = (
    Operation("POST", "/v1/chat/completions", chat.chat_completions,
              "Answer a conversation (OpenAI).", ChatRequest, COMPLETION, needs=INFER),
    Operation("POST", "/v1/completions", completions.completions,
              "Complete a prompt (OpenAI).", CompletionRequest, COMPLETION, needs=INFER),
    Operation("POST", "/v1/embeddings", embeddings.embeddings,
              "Embed texts (OpenAI).", EmbeddingRequest, needs=INFER),
    Operation("GET", "/v1/models", models.list_openai_models,
              "List models (OpenAI).", needs=READ),
    Operation("GET", "/v1/models/{model_id:path}", models.get_openai_model,
              "Describe a model (OpenAI).", needs=READ),
)

NATIVE = (
    Operation("POST", "/inference", inference.inference,
              "Complete a prompt.", InferenceRequest, COMPLETION, needs=INFER),
    Operation("POST", "/inference/stream", inference.inference_stream,
              "Complete a prompt, streamed.", InferenceRequest, EVENTS, needs=INFER),
    Operation("GET", "/health", service.health, "How the server is.", public=True),
    Operation("GET", "/health/live", service.live, "Whether the server lives.", public=True),
    Operation("GET", "/health/ready", service.ready,
              "Whether to send requests here.", public=True),
    Operation("POST", "/models/{model_id}/load", models.load_model,
              "Load a model.", LoadRequest, "What loading it measured.", needs=WRITE),
    Operation("POST", "/models/{model_id}/unload", models.unload_model,
              "Unload a model.", needs=WRITE),
)
"""Seed 001's calls that OpenAI's paths leave room for; they are served under `/v1` too."""

ROOT = (
    Operation("POST", "/embeddings", embeddings.embeddings,
              "Embed texts.", EmbeddingRequest, needs=INFER),
    Operation("GET", "/models", models.list_models, "List models.", needs=READ),
    Operation("GET", "/models/{model_id}", models.get_model, "Describe a model.", needs=READ),
    Operation("GET", "/", service.describe, "Describe the server."),
    Operation("GET", "/docs", service.docs, "This API, for people.", responses=HTML),
)

AUTH = (
    Operation("POST", "/auth/login", auth.login,
              "Sign in.", auth.LoginRequest, "Tokens.", public=True),
    Operation("POST", "/auth/refresh", auth.refresh,
              "Get new tokens.", auth.RefreshRequest, "Tokens.", public=True),
    Operation("POST", "/auth/logout", auth.logout, "Sign out."),
    Operation("POST", "/auth/password", auth.change_password,
              "Change one's own password.", auth.PasswordRequest),
    Operation("GET", "/auth/me", auth.me, "Who the caller is, and what it has left."),
    Operation("GET", "/auth/api-keys", auth.list_keys, "List API keys."),
    Operation("POST", "/auth/api-keys", auth.create_key,
              "Create an API key.", auth.NewKeyRequest, "The key, shown this once."),
    Operation("GET", "/auth/api-keys/{key_id}", auth.get_key, "Describe an API key."),
    Operation("PATCH", "/auth/api-keys/{key_id}", auth.change_key,
              "Rename, disable or limit an API key.", ApiKeyChange),
    Operation("DELETE", "/auth/api-keys/{key_id}", auth.revoke_key, "Revoke an API key."),
    Operation("POST", "/auth/api-keys/{key_id}/rotate", auth.rotate_key,
              "Replace an API key.", auth.RotateRequest, "The new key, shown this once."),
    Operation("GET", "/auth/users", auth.list_users, "List users.", needs=USERS),
    Operation("POST", "/auth/users", auth.create_user, "Create a user.", NewUser, needs=USERS),
    Operation("GET", "/auth/users/{user}", auth.get_user, "Describe a user.", needs=USERS),
    Operation("PATCH", "/auth/users/{user}", auth.change_user,
              "Change a user.", UserChange, needs=USERS),
    Operation("DELETE", "/auth/users/{user}", auth.delete_user, "Delete a user.", needs=USERS),
    Operation("GET", "/auth/rate-limits", auth.list_limits,
              "List limits of roles and tenants.", needs=USERS),
    Operation("PUT", "/auth/rate-limits/{scope}/{name}", auth.set_limits,
              "Set limits of a role or tenant.", LimitOverrides, needs=USERS),
    Operation("GET", "/auth/rate-limits/usage/{user}", auth.show_usage,
              "What a user and its keys have used.", needs=USERS),
    Operation("DELETE", "/auth/rate-limits/usage/{user}", auth.reset_limits,
              "Forget what a user has used.", needs=USERS),
    Operation("GET", "/audit", audit.query, "Search the audit trail.", needs=AUDIT),
    Operation("GET", "/audit/export", audit.export,
              "Export the audit trail.", responses="JSON lines.", needs=AUDIT),
    Operation("GET", "/audit/verify", audit.verify, "Check the audit trail.", needs=AUDIT),
)

WEBHOOKS = (
    Operation("GET", "/webhooks", webhooks.list_all, "List webhooks.", needs=INFER),
    Operation("POST", "/webhooks", webhooks.create,
              "Be told of events.", NewWebhook, "The webhook; its secret, this once.", needs=INFER),
    Operation("GET", "/webhooks/secret", webhooks.show_secret,
              "What signs deliveries to addresses that came with a request.", needs=INFER),
    Operation("GET", "/webhooks/deliveries", webhooks.list_deliveries,
              "List deliveries.", needs=INFER),
    Operation("GET", "/webhooks/deliveries/{delivery_id}", webhooks.get_delivery,
              "Show a delivery with its attempts.", needs=INFER),
    Operation("POST", "/webhooks/deliveries/{delivery_id}/resend", webhooks.resend,
              "Send a delivery again.", needs=INFER),
    Operation("GET", "/webhooks/{webhook_id}", webhooks.get, "Describe a webhook.", needs=INFER),
    Operation("PATCH", "/webhooks/{webhook_id}", webhooks.change,
              "Change, disable or enable a webhook.", WebhookChange, needs=INFER),
    Operation("DELETE", "/webhooks/{webhook_id}", webhooks.delete,
              "Remove a webhook.", needs=INFER),
    Operation("POST", "/webhooks/{webhook_id}/rotate", webhooks.rotate,
              "Replace a webhook's secret.", NewSecret, "The new secret, this once.", needs=INFER),
    Operation("POST", "/webhooks/{webhook_id}/test", webhooks.send_test,
              "Send a webhook a test.", needs=INFER),
    Operation("GET", "/webhooks/{webhook_id}/deliveries", webhooks.list_of_webhook,
              "List a webhook's deliveries.", needs=INFER),
)
"""Seed 001's webhooks; they are served under `/v1` too."""

OBSERVABILITY = (
    Operation("GET", "/metrics", metrics.metrics,
              "What the platform measures.", responses=METRICS, needs=WATCH),
    Operation("GET", "/metrics/json", metrics.metrics_json,
              "What the platform measures, as JSON.", needs=WATCH),
    Operation("GET", "/metrics/snapshot", metrics.snapshot,
              "The figures to see first.", needs=WATCH),
    Operation("POST", "/metrics/custom", metrics.report,
              "Report a metric of your own.", Report, needs=CONFIGURE),
    Operation("DELETE", "/metrics/custom/{name}", metrics.delete,
              "Forget a metric of your own.", needs=CONFIGURE),
    Operation("GET", "/traces", traces.traces, "The latest traces.", needs=WATCH),
)

BATCHES = (
    Operation("POST", "/batch", batches.create_batch,
              "Hand in many requests.", batches.BatchRequest, "The batch's id.", needs=INFER),
    Operation("GET", "/batch", batches.list_batches, "List batches.", needs=INFER),
    Operation("GET", "/batch/{batch_id}", batches.get_batch,
              "How a batch stands.", needs=INFER),
    Operation("GET", "/batch/{batch_id}/results", batches.get_results,
              "What came of a batch's requests.", needs=INFER),
    Operation("POST", "/batch/{batch_id}/cancel", batches.cancel_batch,
              "Cancel a batch.", needs=INFER),
    Operation("DELETE", "/batch/{batch_id}", batches.delete_batch,
              "Delete a batch that has ended.", needs=INFER),
)
"""Seed 001's batches, and what belongs to them; they are served under `/v1` too."""

OPENAI_BATCHES = (
    Operation("POST", "/v1/files", files.create_file,
              "Upload a file (OpenAI): a form with 'file' and 'purpose'.", needs=INFER),
    Operation("GET", "/v1/files", files.list_files, "List files (OpenAI).", needs=INFER),
    Operation("GET", "/v1/files/{file_id}", files.get_file,
              "Describe a file (OpenAI).", needs=INFER),
    Operation("DELETE", "/v1/files/{file_id}", files.delete_file,
              "Delete a file (OpenAI).", needs=INFER),
    Operation("GET", "/v1/files/{file_id}/content", files.get_content,
              "Read a file (OpenAI).", responses="The file.", needs=INFER),
    Operation("POST", "/v1/batches", openai_batches.create_batch,
              "Hand in a file of requests (OpenAI).", OpenAIBatchRequest, needs=INFER),
    Operation("GET", "/v1/batches", openai_batches.list_batches,
              "List batches (OpenAI).", needs=INFER),
    Operation("GET", "/v1/batches/{batch_id}", openai_batches.get_batch,
              "How a batch stands (OpenAI).", needs=INFER),
    Operation("POST", "/v1/batches/{batch_id}/cancel", openai_batches.cancel_batch,
              "Cancel a batch (OpenAI).", needs=INFER),
)
# fmt: on


def operations() -> list[Operation]:
    """Return all operations but `/openapi.json`; those on the hot path first.

    Routes are tried in this order.
    """
    versioned = [
        dataclasses.replace(o, path=f"/v1{o.path}") for o in (*NATIVE, *BATCHES, *WEBHOOKS)
    ]
    named = (*BATCHES, *versioned, *OPENAI_BATCHES, *AUTH, *WEBHOOKS, *OBSERVABILITY)
    return [*OPENAI, *NATIVE, *ROOT, *named]
