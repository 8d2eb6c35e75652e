// Package insight reasons from what nodes see to why something does not work: a cause in a sentence, the evidence for
// it, and a cure. It is pure: no I/O, no clock, no goroutine.
//
//	Sight   what one node sees and counts at one moment, with its recent decisions
//	Rings   the recent decisions of each name, bounded
//	Stills  since when a socket that has work has not moved
//	Why     from a question and the sights of one or several nodes to an Answer
//	Check   one line of the doctor, judged from what was measured
//
// What a sight does not hold is not guessed: where the evidence allows two causes, the sentence says so.
package insight
