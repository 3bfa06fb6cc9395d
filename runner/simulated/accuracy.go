package simulated

import (
	"fmt"
	"math"
)

// An exam is one of the accuracy benchmarks. The share of right answers grows
// with the logarithm of the model's size along an S between guessing (low) and
// the best models (high), steepest at 10^middle parameters. The figures are
// fitted by eye to what the papers on Llama 3 (arXiv:2407.21783) and Qwen2.5
// (arXiv:2412.15115) report for their models of 0.5 to 72 billion: it is right
// to within some points, and no more is claimed.
type exam struct {
	low, high, middle, width float64
	questions                int // how many are asked, at most the data set's
	prompt, answer           int // tokens
}

var exams = map[string]exam{
	"mmlu":       {low: 0.25, high: 0.90, middle: 9.45, width: 0.55, questions: 10 * len(subjects), prompt: 120, answer: 4},
	"gsm8k":      {low: 0.02, high: 0.97, middle: 9.40, width: 0.40, questions: 500, prompt: 90, answer: 160},
	"truthfulqa": {low: 0.22, high: 0.70, middle: 9.80, width: 0.80, questions: 817, prompt: 40, answer: 60},
	"hellaswag":  {low: 0.25, high: 0.90, middle: 9.00, width: 0.60, questions: 500, prompt: 110, answer: 4},
}

// skill is the chance that a model answers one question of e.
func (e exam) skill(m model) float64 {
	s := e.low + (e.high-e.low)/(1+math.Exp((e.middle-math.Log10(m.params))/e.width))
	// Below 4 bits a model loses what it learnt; the curves in llama.cpp's
	// tables of perplexity bend there.
	if lost := 4 - m.bits; lost > 0 {
		s -= (s - e.low) * min(1, 0.12*lost)
	}
	return s
}

func (m *measurer) answers(name string) drawing {
	e := exams[name]
	// Models of one size differ, here by a point up or down.
	skill := e.skill(m.model) + 0.02*m.rng.Float64() - 0.01
	a := accuracyMetrics{Total: e.questions}
	right := [len(subjects)]int{}
	for i := range e.questions {
		if m.rng.Float64() < skill {
			a.Correct++
			right[i%len(subjects)]++
		}
	}
	a.Accuracy = round(float64(a.Correct)/float64(a.Total), 4)
	if name == "mmlu" {
		a.NumSubjects = len(subjects)
		a.PerSubject = make(map[string]float, len(subjects))
		for i, s := range subjects {
			a.PerSubject[s] = float(float64(right[i]) / float64(e.questions/len(subjects)))
		}
	}
	took := float64(e.questions) * m.request(e.prompt, e.answer).total
	return drawing{a, took, fmt.Sprintf("accuracy %.4f (%d of %d)", float64(a.Accuracy), a.Correct, a.Total)}
}

// subjects are those of MMLU (Hendrycks et al., arXiv:2009.03300).
var subjects = [...]string{
	"abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge",
	"college_biology", "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine",
	"college_physics", "computer_security", "conceptual_physics", "econometrics", "electrical_engineering",
	"elementary_mathematics", "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry",
	"high_school_computer_science", "high_school_european_history", "high_school_geography",
	"high_school_government_and_politics", "high_school_macroeconomics", "high_school_mathematics",
	"high_school_microeconomics", "high_school_physics", "high_school_psychology", "high_school_statistics",
	"high_school_us_history", "high_school_world_history", "human_aging", "human_sexuality", "international_law",
	"jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing", "medical_genetics",
	"miscellaneous", "moral_disputes", "moral_scenarios", "nutrition", "philosophy", "prehistory",
	"professional_accounting", "professional_law", "professional_medicine", "professional_psychology",
	"public_relations", "security_studies", "sociology", "us_foreign_policy", "virology", "world_religions",
}
