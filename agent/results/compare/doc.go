// Package compare says whether two sets of runs differ, and how much the results of a
// machine vary by themselves.
//
// [Runs] compares all metrics of two sets; [Series] compares two lists of numbers.
// [Calibrate] computes from repeated runs of one test how much they vary: a [Noise].
//
// # Statistics
//
// A value is one run's. If a benchmark was repeated within a run, the value is the
// median of the repetitions: they share an engine, a warm-up and a temperature, so that
// counting them as runs would find differences where there are none.
//
// These come from golang.org/x/perf/benchmath, which assumes nothing about the
// distribution (AssumeNothing): medians with confidence intervals of 95% by order
// statistics, which need six values to be finite, and p by the Mann–Whitney U test,
// which needs four values on each side to be below 0.05.
//
// These are this package's own:
//
//   - Several metrics. Of 30 metrics that don't differ, one or two have p < 0.05 by
//     chance. Each row shows its own p, as benchstat does. A row is a [Different] one
//     only if p is below 0.05 after Holm's correction for the number of rows, which
//     needs no assumption about how metrics depend on each other (Holm 1979). A row with
//     one metric needs none.
//   - Drift. If all runs of one set come before those of the other, a change over time
//     looks like a difference. The ranks of the values are fitted by least squares with
//     one slope over the order of the runs and one level for each set (rank analysis of
//     covariance; Conover and Iman 1982). If p of the slope is below 0.1, the row is a Different one only if p of the levels is below
//     0.05 too; otherwise it is [Drift]. Runs that alternate between the sets need no
//     such correction. The level of 0.1 is lower than usual in order not to miss a drift.
//   - Noise. With a [Noise] of the machine, a difference must also be larger than what
//     its spread makes likely: t * spread * c * sqrt(1/n + 1/m), where t is the 97.5%
//     quantile of Student's distribution with the calibration's degrees of freedom and c
//     is 1.2533 for medians of at least three values (their asymptotic standard error,
//     relative to a mean's), else 1. Otherwise it is [WithinNoise]. With fewer than four
//     values on a side, where U cannot tell, p of the difference by this t-distribution
//     decides, after Holm's correction for the number of such rows.
//   - Outliers are values whose modified z-score, 0.6745 * |x - median| / MAD, is above
//     3.5 (Iglewicz and Hoaglin 1993), of at least five. They are counted and stay: U
//     and medians bear some.
//   - Two modes. Sorted values are split where the sum of squares within both parts is
//     the smallest. They have two modes if both parts have at least two values, and the
//     parts' means are more than 8 standard deviations within the parts apart, of at
//     least six values. Normal values are about 3 apart.
//   - Warm-up. The second half of a calibration's runs are taken as steady. Leading runs
//     are warm-up as long as they lie outside the 99% prediction interval of the steady
//     ones (t * s * sqrt(1 + 1/n)) in at least half of the metrics. They are at most half
//     of the runs.
//
// The spread of a [Noise] is the standard deviation of the runs after the warm-up,
// relative to their mean.
package compare
