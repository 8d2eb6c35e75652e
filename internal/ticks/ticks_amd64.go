package ticks

// count reads the time stamp counter.
func count() uint64

// cpuid asks the processor for what it can.
func cpuid(leaf uint32) (eax, edx uint32)

// steady: the counter runs at one rate and never stops, says the processor ("invariant TSC").
var steady = func() bool {
	const highest, power, invariant = 0x80000000, 0x80000007, 1 << 8
	if most, _ := cpuid(highest); most < power {
		return false
	}
	_, edx := cpuid(power)
	return edx&invariant != 0
}()
