//go:build race

package meshtest_test

const raceDetector = true
