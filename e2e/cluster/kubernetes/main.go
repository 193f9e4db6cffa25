// Kubernetes in one program: `kubernetes COMPONENT [FLAGS]` runs that component.
//
// The components come from Kubernetes' own module; building them together takes half the time and a third of the space of
// building each. Only the one that is asked for is constructed: they register global feature gates and metrics, which collide.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// The exit status for a wrong command line, as in sysexits.h.
const usage = 64

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet": func() *cobra.Command {
		return kubelet.NewKubeletCommand(context.Background())
	},
}

func main() {
	// By its first argument, or by the name of a link to this program.
	name := filepath.Base(os.Args[0])
	if _, known := components[name]; !known && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	construct, known := components[name]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: kubernetes COMPONENT [FLAGS], where COMPONENT is one of")
		for _, name := range slices.Sorted(maps.Keys(components)) {
			fmt.Fprintln(os.Stderr, "  "+name)
		}
		os.Exit(usage)
	}
	command := construct()
	if name == "kubectl" {
		// As kubectl's own main does: its errors are told in its own way.
		if err := cli.RunNoErrOutput(command); err != nil {
			kubectlutil.CheckErr(err)
		}
		return
	}
	os.Exit(cli.Run(command))
}
