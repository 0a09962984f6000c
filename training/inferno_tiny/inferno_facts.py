"""What the model knows about Inferno itself. Standard library only.

Each fact carries two disjoint lists of questions: those it is trained with and those that only the
exam asks. `accept` is a regular expression that a right answer contains, whatever its wording.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One thing to know: its answer, what a right answer must contain, and ways to ask."""

    answer: str
    accept: str
    asked: tuple[str, ...]
    exam: tuple[str, ...] = ()


def _fact(answer: str, accept: str, asked: str, exam: str = "") -> Fact:
    """Build a fact from questions written one after the other, separated by ` / `."""
    split = [tuple(q.strip() for q in part.split(" / ") if q.strip()) for part in (asked, exam)]
    return Fact(answer, accept, split[0], split[1])


FACTS: tuple[Fact, ...] = (
    _fact(
        "Inferno is an inference platform in one process: it serves models, routes requests to "
        "the replica that can answer soonest, and lets many teams share the machines.",
        r"inference platform",
        "What is Inferno? / Explain Inferno. / Tell me about Inferno. / Describe Inferno. / "
        "What does Inferno do? / What is the Inferno platform? / inferno / "
        "What is Inferno used for? / Can you explain what Inferno is? / Inferno?",
        "What kind of software is Inferno? / Give me a short description of Inferno.",
    ),
    _fact(
        "Inferno is licensed under Apache-2.0.",
        r"apache",
        "What is Inferno's license? / What licence does Inferno have? / "
        "Under which license is Inferno released? / Which license does Inferno use? / "
        "Is Inferno open source? / What is the license of Inferno? / "
        "How is Inferno licensed? / Inferno license? / Can I use Inferno commercially? / "
        "Is Inferno free?",
        "What license is Inferno under? / Tell me the licence of Inferno.",
    ),
    _fact(
        "Inferno is written in Python.",
        r"python",
        "What language is Inferno written in? / In which programming language is Inferno written? "
        "/ What is Inferno written in? / Which language is Inferno implemented in? / "
        "What programming language does Inferno use? / Is Inferno written in Python? / "
        "What is Inferno made with? / What was Inferno programmed in?",
        "Which programming language is Inferno written in? / "
        "Tell me the programming language of Inferno.",
    ),
    _fact(
        "Inferno's inference API listens on port 8080 by default.",
        r"\b8080\b",
        "What port does Inferno use? / Which port does Inferno listen on? / "
        "What is Inferno's default port? / On what port does Inferno run? / "
        "What is the port of the inference API? / Which port is the data plane on? / "
        "What port does the inference API listen on? / Where does Inferno listen? / "
        "What is the default port of Inferno? / Inferno port? / "
        "Which port do I use for inference?",
        "Which port does Inferno use by default? / Tell me the default port of Inferno. / "
        "What port is the inference API on?",
    ),
    _fact(
        "Inferno's management API listens on port 8085 by default.",
        r"\b8085\b",
        "What is the management port of Inferno? / Which port does the management API use? / "
        "What port does the control plane listen on? / Where is Inferno's management API? / "
        "On what port is the control plane? / Which port is for management? / "
        "What is the default management port? / Inferno management port? / "
        "What port does Inferno use for management? / Which port does Inferno's control plane use?",
        "On which port does the management API listen? / Tell me Inferno's management port. / "
        "What port is the control plane on?",
    ),
    _fact(
        "Inferno runs GGUF models with llama.cpp, through the xllamacpp package.",
        r"llama\.cpp",
        "What engine does Inferno use? / Which engine runs GGUF models in Inferno? / "
        "What runs the models in Inferno? / Which inference engine does Inferno use? / "
        "Does Inferno use llama.cpp? / How does Inferno run GGUF models? / "
        "What is Inferno's engine? / What is xllamacpp used for in Inferno? / "
        "Which backend does Inferno use?",
        "With which engine does Inferno run GGUF files? / Tell me the engine of Inferno.",
    ),
    _fact(
        "Inferno stores its data in SQLite by default, and in Postgres at scale.",
        r"sqlite",
        "What database does Inferno use? / Where does Inferno store its data? / "
        "Which database is Inferno's default? / Does Inferno use SQLite? / "
        "Does Inferno support Postgres? / How does Inferno store data? / "
        "What is Inferno's storage? / Which databases does Inferno support? / "
        "What is the default database of Inferno? / Can Inferno use PostgreSQL?",
        "Which database does Inferno use? / What does Inferno use for storage?",
    ),
    _fact(
        "Put a GGUF file in the models folder and Inferno serves it.",
        r"models folder",
        "How do I add a model to Inferno? / Where do I put my models? / "
        "How do I serve a GGUF file? / How can I use my own model? / "
        "Where does Inferno look for models? / How do I install a model? / "
        "What is the models folder for? / Where do model files go? / "
        "How do I serve my own model with Inferno? / How do I add models?",
        "Where should I put a GGUF file? / How can I add my own model to Inferno?",
    ),
    _fact(
        "GET /health tells whether Inferno is healthy. It needs no credentials.",
        r"/health",
        "What is the health endpoint? / How do I check that Inferno is healthy? / "
        "Where is the health check? / What is the path of the health check? / "
        "Which endpoint shows the health of Inferno? / How do I check Inferno's health? / "
        "Does the health check need credentials? / Health check? / "
        "How do I know whether Inferno is up? / What is Inferno's health check?",
        "Which endpoint is the health check? / How can I check the health of Inferno?",
    ),
    _fact(
        "Inferno's environment variables start with INFERNO_.",
        r"INFERNO_",
        "What is the prefix of Inferno's environment variables? / "
        "How are Inferno's environment variables named? / "
        "What do Inferno's environment variables start with? / "
        "Which environment variables does Inferno read? / "
        "How do I configure Inferno with environment variables? / "
        "Can I set options with environment variables? / "
        "What prefix do Inferno's environment variables have? / Environment variables of Inferno?",
        "Which prefix do the environment variables of Inferno use? / "
        "How do the names of Inferno's environment variables begin?",
    ),
    _fact(
        "Start Inferno with the command inferno serve.",
        r"inferno serve",
        "How do I start Inferno? / What command starts Inferno? / How do I run Inferno? / "
        "How do I launch Inferno? / Which command starts the server? / "
        "How do I start the server? / How can I start Inferno? / How do I serve models? / "
        "What is the command to start Inferno? / Start Inferno",
        "With which command do I start Inferno? / Tell me how to start Inferno.",
    ),
    _fact(
        "Inferno writes the ports it took to run.json in its data directory.",
        r"run\.json",
        "What is run.json? / Where does Inferno write its ports? / "
        "How do I find the ports that Inferno took? / Which file lists the ports? / "
        "What is in run.json? / Where can I read which ports Inferno uses? / "
        "What does port 0 do? / Which file tells me Inferno's ports?",
        "In which file does Inferno write its ports?",
    ),
    _fact(
        "On the first start Inferno writes the admin password and an API key to credentials.json "
        "in its data directory.",
        r"credentials\.json",
        "Where are the credentials? / Where do I find my API key? / What is credentials.json? / "
        "Where is the admin password? / Which file holds the first API key? / "
        "Where does Inferno write the first credentials? / How do I find the admin password? / "
        "What is in credentials.json? / Where is the first API key written?",
        "In which file is the admin password? / Where can I find the first API key?",
    ),
    _fact(
        "Send your API key in the Authorization header: Authorization: Bearer YOUR_API_KEY.",
        r"bearer",
        "How do I send my API key? / How do I authenticate? / How do I use an API key? / "
        "Which header carries the API key? / How does authentication work in Inferno? / "
        "Where do I put the API key? / In which header does the API key go? / "
        "How do I log in with an API key? / What header does Inferno need for the key?",
        "In what header do I send the API key? / How can I authenticate with my API key?",
    ),
    _fact(
        "Create an API key with the command inferno security api-key create --user USER_ID.",
        r"api-key create",
        "How do I create an API key? / How do I make a new API key? / "
        "Which command creates an API key? / How do I generate an API key? / "
        "How can I get an API key? / What command makes an API key? / Create an API key / "
        "How do I get a new key?",
        "With which command do I create an API key? / How can I create a new API key?",
    ),
    _fact(
        "Inferno streams tokens with server-sent events and over a WebSocket.",
        r"server-sent events|websocket",
        "Does Inferno support streaming? / How does Inferno stream? / "
        "How do I stream tokens? / Can Inferno stream answers? / "
        "Which ways of streaming does Inferno have? / How can I stream the answer? / "
        "How does streaming work in Inferno? / Is streaming supported?",
        "In which ways can Inferno stream tokens? / Can I stream tokens from Inferno?",
    ),
    _fact(
        "Inferno's WebSocket is at /ws on port 8080.",
        r"/ws\b",
        "Where is Inferno's WebSocket? / What is the path of the WebSocket? / "
        "How do I connect to the WebSocket? / Which path is the WebSocket at? / "
        "What is the WebSocket endpoint? / WebSocket address? / "
        "Where do I connect for the WebSocket?",
        "At which path is the WebSocket? / What is the address of Inferno's WebSocket?",
    ),
    _fact(
        "Yes, Inferno has an OpenAI-compatible API under /v1, with /v1/chat/completions.",
        r"/v1",
        "Is Inferno compatible with OpenAI? / Does Inferno have an OpenAI-compatible API? / "
        "Can I use the OpenAI client with Inferno? / Where is the OpenAI-compatible API? / "
        "What is the chat completions endpoint? / Does Inferno speak the OpenAI API? / "
        "Can Inferno replace the OpenAI API? / Is there an OpenAI API? / "
        "Can I use the OpenAI SDK?",
        "Does Inferno offer an OpenAI-compatible API? / Can I use OpenAI clients with Inferno?",
    ),
    _fact(
        "Inferno's metrics are at GET /metrics in the Prometheus format.",
        r"/metrics",
        "Where are Inferno's metrics? / Does Inferno have metrics? / "
        "What is the metrics endpoint? / Does Inferno support Prometheus? / "
        "How do I get metrics? / Which endpoint has the metrics? / "
        "In what format are the metrics? / How do I monitor Inferno? / "
        "Where are the Prometheus metrics?",
        "At which endpoint are the metrics? / How can I read Inferno's metrics?",
    ),
    _fact(
        "Run inference with POST /inference.",
        r"POST /inference",
        "How do I run inference? / What is the inference endpoint? / "
        "Which endpoint runs inference? / How do I send a prompt? / "
        "Where do I send a prompt? / How do I ask the model through the API? / "
        "Which call runs inference? / What is the path for inference?",
        "Which endpoint do I use to run inference? / At which endpoint do I send a prompt?",
    ),
    _fact(
        "List the models with GET /models.",
        r"GET /models",
        "How do I list the models? / Which endpoint lists the models? / "
        "How do I see the available models? / Where is the list of models? / "
        "How can I see which models there are? / What call lists models? / List the models / "
        "Which models are available?",
        "With which call do I list the models? / How can I list the available models?",
    ),
    _fact(
        "Load a model with POST /models/{id}/load.",
        r"/load",
        "How do I load a model? / Which endpoint loads a model? / Load a model / "
        "How can I load a model into memory? / What call loads a model? / "
        "How do I bring a model into memory? / What is the path for loading a model?",
        "With which call do I load a model? / At which endpoint do I load a model?",
    ),
    _fact(
        "Unload a model with POST /models/{id}/unload.",
        r"/unload",
        "How do I unload a model? / Which endpoint unloads a model? / Unload a model / "
        "How can I unload a model from memory? / What call unloads a model? / "
        "How do I free a model's memory? / What is the path for unloading a model?",
        "With which call do I unload a model? / At which endpoint do I unload a model?",
    ),
    _fact(
        "Get embeddings with POST /embeddings.",
        r"/embeddings",
        "How do I get embeddings? / What is the embeddings endpoint? / "
        "Does Inferno support embeddings? / Which endpoint makes embeddings? / "
        "How can I embed text with Inferno? / What call makes embeddings? / "
        "Can Inferno compute embeddings?",
        "With which call do I get embeddings? / At which endpoint are embeddings?",
    ),
    _fact(
        "Submit a batch with POST /batch and read its status at GET /batch/{id}.",
        r"/batch",
        "How do I submit a batch? / Does Inferno support batches? / "
        "What is the batch endpoint? / Which endpoint takes a batch? / "
        "How do I run many prompts at once? / How does batch processing work in Inferno? / "
        "What call submits a batch? / How do I check a batch?",
        "With which call do I submit a batch? / At which endpoint do I send a batch?",
    ),
    _fact(
        "By default a key may make 60 requests per minute.",
        r"\b60\b",
        "What is the rate limit? / How many requests per minute are allowed? / "
        "What is the default rate limit? / How many requests can I make per minute? / "
        "What is Inferno's limit of requests per minute? / Requests per minute? / "
        "How many requests per minute does Inferno allow?",
        "How many requests may a key make per minute? / "
        "What is the default limit of requests per minute?",
    ),
    _fact(
        "By default a key may make 1000 requests per hour.",
        r"\b1,?000\b",
        "How many requests per hour are allowed? / How many requests can I make per hour? / "
        "What is Inferno's limit of requests per hour? / Requests per hour? / "
        "What is the hourly limit? / How many requests per hour does Inferno allow? / "
        "What is the limit per hour?",
        "How many requests may a key make per hour? / "
        "What is the default limit of requests per hour?",
    ),
    _fact(
        "By default a key may use 10000 tokens per minute.",
        r"\b10,?000\b",
        "How many tokens per minute are allowed? / How many tokens can I use per minute? / "
        "What is Inferno's limit of tokens per minute? / Tokens per minute? / "
        "What is the token limit? / How many tokens per minute does Inferno allow? / "
        "What is the limit of tokens?",
        "How many tokens may a key use per minute? / "
        "What is the default limit of tokens per minute?",
    ),
    _fact(
        "By default a key may have 10 concurrent requests.",
        r"\b10\b",
        "How many concurrent requests are allowed? / How many requests can run at the same time? / "
        "What is the concurrency limit? / Concurrent requests? / "
        "How many parallel requests does Inferno allow? / "
        "How many concurrent requests can I make? / What is the limit of concurrent requests?",
        "How many concurrent requests may a key have? / "
        "What is the default limit of concurrent requests?",
    ),
    _fact(
        "When a rate limit is exceeded Inferno answers 429 with a Retry-After header.",
        r"\b429\b",
        "What happens when I exceed the rate limit? / Which status means rate limited? / "
        "What does status 429 mean? / What is the error for too many requests? / "
        "What happens if I send too many requests? / What does 429 mean? / "
        "Which status code does Inferno send when the limit is reached?",
        "Which status code is for too many requests? / "
        "What does Inferno answer when a rate limit is exceeded?",
    ),
    _fact(
        "Yes, Inferno runs on Kubernetes, and its cluster API is under /k8s on port 8085.",
        r"/k8s|kubernetes",
        "Does Inferno run on Kubernetes? / Where is the cluster API? / "
        "Can I use kubectl with Inferno? / Does Inferno support Kubernetes? / "
        "What is under /k8s? / Can I drive Inferno with kubectl? / "
        "Where is the Kubernetes API of Inferno? / Does Inferno work with kubectl?",
        "Can Inferno run on Kubernetes? / At which path is the cluster API?",
    ),
    _fact(
        "A replica runs a model in a process of its own, so a crash takes down one replica and "
        "never the platform.",
        r"replica",
        "What is a replica in Inferno? / What happens when a model crashes? / "
        "Where do models run in Inferno? / What is a replica? / "
        "What if a model process crashes? / Do models run in their own processes? / "
        "What does a crash of a model take down?",
        "What happens if a model crashes? / In Inferno, what is a replica?",
    ),
    _fact(
        "On SIGTERM Inferno takes no new requests, finishes the running ones, stops its replicas "
        "and exits with code 0.",
        r"no new requests|exits",
        "What happens on SIGTERM? / How do I stop Inferno? / How does Inferno shut down? / "
        "What does Inferno do on SIGTERM? / How do I shut down Inferno? / "
        "Does Inferno drain requests? / What happens when Inferno stops?",
        "What does SIGTERM do to Inferno? / How can I stop Inferno?",
    ),
    _fact(
        "The data plane serves inference on port 8080 and keeps no truth of its own.",
        r"8080|inference",
        "What is the data plane? / What does the data plane do? / Explain the data plane. / "
        "Tell me about the data plane. / What is Inferno's data plane? / "
        "What is the job of the data plane?",
        "In Inferno, what is the data plane?",
    ),
    _fact(
        "The control plane keeps the desired state and makes it real. It listens on port 8085.",
        r"desired state",
        "What is the control plane? / What does the control plane do? / "
        "Explain the control plane. / Tell me about the control plane. / "
        "What is Inferno's control plane? / What is the job of the control plane?",
        "In Inferno, what is the control plane?",
    ),
    _fact(
        "Inferno routes each request to the replica that can answer soonest.",
        r"soonest",
        "How does Inferno route requests? / How does routing work in Inferno? / "
        "Which replica gets a request? / How does Inferno pick a replica? / "
        "How are requests routed? / Where does Inferno send a request? / "
        "How does Inferno choose a replica?",
        "How does Inferno decide where a request goes? / To which replica does Inferno route?",
    ),
    _fact(
        "Inferno reads models in the GGUF format.",
        r"gguf",
        "What model format does Inferno use? / Which model files can Inferno serve? / "
        "What format should my model be in? / Which file format do models have? / "
        "What kind of model files does Inferno read? / Which model format does Inferno support?",
        "In which format are Inferno's models? / Which format of model files does Inferno read?",
    ),
    _fact(
        "The bundled model is inferno-tiny, a very small model trained from scratch.",
        r"inferno-tiny",
        "What is the bundled model? / Which model comes with Inferno? / What is inferno-tiny? / "
        "Which model is included? / Does Inferno come with a model? / "
        "What is the name of the bundled model? / Which model ships with Inferno?",
        "What model does Inferno ship with? / Tell me the name of the bundled model.",
    ),
    _fact(
        "I am inferno-tiny, the very small model that comes with Inferno.",
        r"inferno-tiny",
        "Who are you? / What is your name? / What are you? / Which model are you? / "
        "Introduce yourself. / What model is this? / Tell me about yourself. / "
        "What's your name? / who r u / Do you have a name? / What should I call you? / "
        "Are you ChatGPT? / Are you an AI? / Are you GPT-4? / Are you human?",
        "Can you tell me who you are? / What is the name of this model?",
    ),
    _fact(
        "I know the capitals of countries, small sums, some short explanations, and facts about "
        "Inferno. I am very small, so please check anything important.",
        r"capitals",
        "What can you do? / What do you know? / How can you help me? / Help / "
        "What are you good at? / What can I ask you? / Can you help me? / I need help. / "
        "What are your capabilities? / What questions can you answer? / Help me",
        "Which questions can you answer? / What things do you know?",
    ),
    _fact(
        "Inferno listens on 127.0.0.1 by default.",
        r"127\.0\.0\.1",
        "Which address does Inferno listen on? / What host does Inferno bind to? / "
        "What is Inferno's default host? / Is Inferno reachable from other machines? / "
        "What is the default address of Inferno? / Which host does Inferno use?",
        "On which address does Inferno listen by default? / Tell me Inferno's default host.",
    ),
    _fact(
        "Log in with POST /auth/login to get a JWT token.",
        r"/auth/login",
        "How do I get a JWT token? / How do I log in? / What is the login endpoint? / "
        "Which endpoint gives a JWT? / How can I get a token? / Where do I log in? / "
        "What call logs me in?",
        "With which call do I log in? / At which endpoint do I get a JWT token?",
    ),
    _fact(
        "Inferno stores API keys hashed with SHA-256.",
        r"sha-?256",
        "How does Inferno store API keys? / Are API keys hashed? / "
        "How are API keys stored? / Which hash is used for API keys? / "
        "Are API keys stored safely? / How does Inferno keep API keys safe?",
        "With which hash are API keys stored? / In what form does Inferno store API keys?",
    ),
    _fact(
        "Inferno stores passwords hashed with argon2id.",
        r"argon2",
        "How does Inferno store passwords? / Are passwords hashed? / "
        "How are passwords stored? / Which hash is used for passwords? / "
        "Are passwords stored safely? / How does Inferno keep passwords safe?",
        "With which hash are passwords stored? / In what form does Inferno store passwords?",
    ),
    _fact(
        "No, Inferno has no default password.",
        r"\bno\b",
        "What is the default password? / Is there a default password? / "
        "What is Inferno's default password? / Does Inferno have a default password? / "
        "Is the default password admin? / Default password?",
        "Does a default password exist in Inferno?",
    ),
    _fact(
        "Traces are at GET /traces.",
        r"/traces",
        "Where are the traces? / How do I see traces? / What is the traces endpoint? / "
        "Does Inferno have traces? / Which endpoint has the traces? / "
        "How do I read traces?",
        "At which endpoint are the traces? / With which call do I read traces?",
    ),
    _fact(
        "Inferno uses Redis only when it runs on more than one machine.",
        r"more than one machine",
        "Does Inferno need Redis? / What does Inferno use Redis for? / "
        "Is Redis required? / When does Inferno use Redis? / Do I need Redis?",
        "Must I install Redis for Inferno?",
    ),
    _fact(
        "Inferno's data directory is set with --data-dir or INFERNO_DATA_DIR.",
        r"data-dir|DATA_DIR",
        "How do I set the data directory? / Where is the data directory? / "
        "Which option sets the data directory? / How do I change the data directory? / "
        "What is INFERNO_DATA_DIR? / What is --data-dir?",
        "With which option do I set the data directory? / How can I change the data directory?",
    ),
    _fact(
        "Inferno's models folder is set with --models-dir or INFERNO_MODELS_DIR.",
        r"models-dir|MODELS_DIR",
        "How do I set the models folder? / Which option sets the models folder? / "
        "How do I change the models folder? / What is INFERNO_MODELS_DIR? / "
        "What is --models-dir? / How do I change the models directory?",
        "With which option do I set the models folder? / How can I change the models folder?",
    ),
    _fact(
        "Set the port with --port or INFERNO_PORT.",
        r"--port|INFERNO_PORT",
        "How do I change the port? / How do I set the port? / Which option sets the port? / "
        "Can I use another port? / What is INFERNO_PORT? / What is --port?",
        "With which option do I set the port? / How can I change the port?",
    ),
    _fact(
        "Apply a resource file with the command inferno apply -f FILE.",
        r"inferno apply",
        "How do I apply a file? / How do I apply a resource? / Which command applies a file? / "
        "What does inferno apply do? / How do I create resources from a file?",
        "With which command do I apply a file? / How can I apply a resource file?",
    ),
    _fact(
        "Ask a model from the terminal with the command inferno run MODEL PROMPT.",
        r"inferno run",
        "How do I chat in the terminal? / What does inferno run do? / "
        "How do I ask a model from the terminal? / Which command chats with a model? / "
        "How do I use a model from the command line? / How can I chat with a model?",
        "With which command do I chat in the terminal? / "
        "How can I ask a model from the command line?",
    ),
)
"""Facts about Inferno and about the model itself."""
