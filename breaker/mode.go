package breaker

// Mode is how much of a breaker's decisions take effect. The zero value is Auto.
type Mode uint8

const (
	// Auto lets every decision take effect.
	Auto Mode = iota
	// ForcedOpen rejects every call, without a probe, until SetMode is called.
	ForcedOpen
	// Disabled admits every call and counts nothing for the rules.
	Disabled
	// MetricsOnly decides as Auto does, with events and counters, but admits the calls
	// that Auto would reject. Their results change nothing, because Auto would not
	// have seen them.
	MetricsOnly
)

var modes = [...]string{"Auto", "ForcedOpen", "Disabled", "MetricsOnly"}

// String returns the name of the mode.
func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return "Mode(?)"
}
