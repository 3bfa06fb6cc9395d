package engine

import "strings"

// A Spec describes one kind of engine: the data that differs between them.
type Spec struct {
	// Name is the protocol's word for the engine.
	Name string

	// Program is the file name of its program. Module is the Python package that it is
	// instead or as well, and Run the module that serves it: `python -m Run`.
	Program, Module, Run string

	// Venv is a directory below the user's home that may be a virtual environment with
	// Module.
	Venv string

	// Version are the arguments that have Program print its version.
	Version []string

	// Port is where it listens by default, and Health the path that answers 200 once it
	// works. A Spec without Health can't be started by an agent.
	Port   int
	Health string

	// Serve are its first arguments. PortFlag, HostFlag and ModelFlag come before the
	// values of these; an engine that has none of them gets HostEnv=host:port.
	Serve                         []string
	PortFlag, HostFlag, ModelFlag string
	HostEnv                       string

	// ModelSuffix is how the name of the one file ends that the engine reads of a model;
	// empty for one that takes directories.
	ModelSuffix string

	// Options are what runtime_config may hold in addition to port.
	Options []Option
}

// Startable reports whether an agent can start the engine.
func (s Spec) Startable() bool { return s.Health != "" }

// Bounds that are far beyond what any engine takes, and far from overflowing one.
const (
	maxTokens = 1 << 24
	maxLayers = 10_000
	maxBytes  = 1 << 50
)

// Specs returns the engines of KITT 1.7, in the order in which it lists them. Ports,
// health paths and flags are those that its own agent uses.
func Specs() []Spec {
	return []Spec{
		{
			Name: "vllm", Program: "vllm", Module: "vllm", Run: "vllm.entrypoints.openai.api_server", Venv: ".kitt/vllm-venv",
			Port: 8000, Health: "/health", PortFlag: "--port", HostFlag: "--host", ModelFlag: "--model",
			Options: []Option{
				{Key: "tensor_parallel_size", Kind: Integer, Min: 1, Max: 64, Flag: "--tensor-parallel-size"},
				{Key: "gpu_memory_utilization", Kind: Number, Min: 0.01, Max: 1, Flag: "--gpu-memory-utilization"},
				{Key: "max_model_len", Kind: Integer, Min: 1, Max: maxTokens, Flag: "--max-model-len"},
				{Key: "dtype", Kind: Word, Words: []string{"auto", "half", "float16", "bfloat16", "float", "float32"}, Flag: "--dtype"},
				{Key: "quantization", Kind: Word, Flag: "--quantization"},
			},
		},
		{
			Name: "llama_cpp", Program: "llama-server", Version: []string{"--version"},
			Port: 8081, Health: "/health", PortFlag: "--port", HostFlag: "--host", ModelFlag: "--model", ModelSuffix: ".gguf",
			Options: []Option{
				{Key: "n_gpu_layers", Kind: Integer, Min: -1, Max: maxLayers, Flag: "--n-gpu-layers"},
				{Key: "n_ctx", Kind: Integer, Min: 0, Max: maxTokens, Flag: "--ctx-size"},
				{Key: "n_batch", Kind: Integer, Min: 1, Max: maxTokens, Flag: "--batch-size"},
				{Key: "threads", Kind: Integer, Min: 1, Max: 4096, Flag: "--threads"},
				{Key: "flash_attn", Kind: Switch, Flag: "--flash-attn"},
			},
		},
		{
			Name: "ollama", Program: "ollama", Version: []string{"--version"},
			Port: 11434, Health: "/api/tags", Serve: []string{"serve"}, HostEnv: "OLLAMA_HOST",
			Options: []Option{
				{Key: "ollama_num_parallel", Kind: Integer, Min: 0, Max: 4096, Env: "OLLAMA_NUM_PARALLEL"},
				{Key: "ollama_max_loaded_models", Kind: Integer, Min: 0, Max: 4096, Env: "OLLAMA_MAX_LOADED_MODELS"},
				{Key: "ollama_gpu_overhead", Kind: Integer, Min: 0, Max: maxBytes, Env: "OLLAMA_GPU_OVERHEAD"},
			},
		},
		{
			Name: "exllamav2", Module: "exllamav2", Venv: ".kitt/exllamav2-venv", Port: 8082,
			Options: []Option{
				{Key: "max_seq_len", Kind: Integer, Min: 1, Max: maxTokens},
				{Key: "gpu_split", Kind: Word},
			},
		},
		{Name: "mlx", Module: "mlx_lm", Venv: ".kitt/mlx-venv"},
	}
}

// Lookup returns the Spec with a name.
func Lookup(name string) (Spec, bool) {
	for _, s := range Specs() {
		if s.Name == name {
			return s, true
		}
	}
	return Spec{}, false
}

// names returns the names of all engines that can be started.
func names() string {
	var all []string
	for _, s := range Specs() {
		if s.Startable() {
			all = append(all, s.Name)
		}
	}
	return strings.Join(all, ", ")
}
