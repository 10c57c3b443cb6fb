package fallback

import "github.com/resilience-go/resilience/internal/policykit"

// String describes the fallback, for people: the text may change.
func (f *Fallback) String() string {
	s := policykit.Describe(policy, f.cfg.Name, "")
	if f.cfg.If != nil {
		return s + "answers for errors that If chooses"
	}
	return s + "answers for failures and rejections"
}
