//go:build !race

package meshtest_test

const raceDetector = false
