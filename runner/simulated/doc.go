// Package simulated runs benchmark jobs without any hardware: the log of a
// `kitt run`, line by line, and at the end a metrics.json that is consistent
// with itself and with the machine that it claims to come from. Test agents,
// fleets of virtual agents and test harnesses run on it.
//
// [New] takes a [Config] and gives a [Runner], which runs any number of jobs at
// once, each in the goroutine that calls Run and in no other. A run draws all
// its figures first, from a generator seeded with Config.Seed and the job's ID,
// and then prints its lines, 0.5 to 1.5 s apart unless Config.Speed says
// otherwise. The same Config, job and clock give the same bytes in the log and
// in metrics.json. Times of day in metrics.json are those of Config.Now when
// the lines were printed; durations are those of the simulated machine, which
// seldom agree with the time that the simulation took.
//
// # Scenarios
//
// A [Scenario] makes runs fail, hang, crash, flood the log and more;
// [ParseScenario] reads one from text such as "progress,fail-at=latency".
//
// # The model of performance
//
// The figures follow the roofline model (Williams, Waterman and Patterson,
// "Roofline: An Insightful Visual Performance Model for Multicore
// Architectures", CACM 52(4), 2009) as it is applied to transformers by Pope et
// al., "Efficiently Scaling Transformer Inference" (arXiv:2211.05102):
//
//   - Decoding, one token after the other for one user, is bound by memory
//     bandwidth: a token takes the time to read all active weights once, at 60%
//     of the memory's peak. Two GPUs therefore differ by the ratio of their
//     bandwidths. Reading the key-value cache is left out, which is small
//     beside the weights for the short texts of these benchmarks.
//   - Prefill is bound by computing: two operations per active weight and token
//     of the prompt (Kaplan et al., arXiv:2001.08361), at half of the peak. It
//     takes no less than one reading of the weights, which is what counts for
//     prompts as short as these. The time to the first token adds 2 ms.
//   - A model needs the bytes of its weights, a key-value cache for 4,096 tokens
//     and 0.75 GiB on each GPU. It is spread over as few GPUs as hold it, layer
//     by layer, so more of them hold more but are no faster. Where even all of
//     them don't hold it the run fails for want of memory. Memory that an engine
//     would reserve beyond this (vLLM takes 90% of the GPU) is left out.
//   - Around this each run varies by 3%, and requests by a few percent more.
//   - Accuracies grow with the logarithm of the model's size.
//
// Size and quantisation are read from the model's name ("8B", "0.5b", "8x7B",
// "30B-A3B", "Q4_K_M", "AWQ", "FP8", "4.0bpw"). A name that tells no size counts
// as 7 billion parameters, one that tells no quantisation as 16 bits, or as
// Q4_K_M where the engine is ollama.
//
// It is a model for tests of programs, not a prediction for buyers of GPUs.
package simulated
