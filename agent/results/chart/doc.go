// Package chart draws a run: its clocks, power and temperature over time, when the GPUs
// were slowed down and by what, who else used them, and when the benchmark loaded and
// measured.
//
// [SVG] writes a picture that a browser opens. It has no script and refers to nothing
// outside; every text in it is escaped. [Sparklines] returns lines for a terminal. Both
// need the memory of some hundred points for each GPU, for a run of any length.
//
// Nothing is interpolated: where there are no samples, there is no line.
package chart
