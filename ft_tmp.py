import sys, time, numpy as np
from pathlib import Path
from benchmarks import spiking_networks as S
from neurodeploy import hardware
from neurodeploy.spiking import convert, fine_tune, reference
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.validate import judge
C=Path("/work/wt/rate/build/spiking-networks")
task, act, seed, ticks, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
opts = eval(sys.argv[6]) if len(sys.argv)>6 else {}
net=S.network(task,act,seed,C)
train,test,cal=S.load(task,"train"),S.load(task,"test"),S.load(task,"calibrate")
t=time.time()
made=convert.convert("rate",net,hardware.find("snntorch-lif"),cal,lambda _:None,{"ticks":ticks,"max_loss":100.0})
print("converted",round(time.time()-t,1), made.net.neurons, made.net.ticks, made.net.reset, made.net.limited, len(made.net.projections), made.net.input_to, made.layout["knobs"])
def acc(m):
    from neurodeploy.ir.fixed import quantize
    (name,w),=m.program.inputs.items()
    x=quantize(test.inputs["x"],w.type); a=np.arange(x.shape[1])<test.lengths[:,None]
    r=reference.simulate(m.net,x,a)
    s=m.net.scores(r.traces[np.arange(len(x)),test.lengths-1])
    return round(100*np.mean(s.argmax(1)==test.labels),2), round(r.spikes,1)
print("float test", judge(net, real_outputs(net, interpret.run(net,test.inputs,test.lengths)), test))
print("before test", acc(made))
t=time.time()
m2=fine_tune.tune(made,train,epochs,seed=seed,progress=print,**opts)
f=m2.layout["fine_tune"]; print({k:v for k,v in f.items() if k!="epochs"}, "s", round(time.time()-t,1))
print("after test", acc(m2), m2.warnings[-1:])
