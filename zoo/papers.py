"""The papers behind the names: citation key to title, authors, venue and year."""

PAPERS = {
    "epstein2020goals": "Video Representations of Goals Emerge from Watching Failure. Dave Epstein, Carl Vondrick. "
    "arXiv 2006.15657, 2020",
    "epstein2020oops": "Oops! Predicting Unintentional Action in Video. Dave Epstein, Boyuan Chen, Carl Vondrick. "
    "CVPR 2020",
    "fan2020pyslowfast": "PySlowFast. Haoqi Fan, Yanghao Li, Bo Xiong, Wan-Yen Lo, Christoph Feichtenhofer. 2020",
    "miech2019howto100m": "HowTo100M: Learning a Text-Video Embedding by Watching Hundred Million Narrated Video "
    "Clips. Antoine Miech, Dimitri Zhukov, Jean-Baptiste Alayrac, Makarand Tapaswi, Ivan Laptev, Josef Sivic. ICCV "
    "2019",
    "miech2020milnce": "End-to-End Learning of Visual Representations from Uncurated Instructional Videos. Antoine "
    "Miech, Jean-Baptiste Alayrac, Lucas Smaira, Ivan Laptev, Josef Sivic, Andrew Zisserman. CVPR 2020",
    "mmaction2020": "OpenMMLab's Video Understanding Toolbox and Benchmark. MMAction2 contributors. 2020",
    "jabri2020walk": "Space-Time Correspondence as a Contrastive Random Walk. Allan Jabri, Andrew Owens, "
    "Alexei A. Efros. NeurIPS 2020",
    "sigurdsson2016charades": "Hollywood in Homes: Crowdsourcing Data Collection for Activity Understanding. Gunnar A. "
    "Sigurdsson, Gül Varol, Xiaolong Wang, Ali Farhadi, Ivan Laptev, Abhinav Gupta. ECCV 2016",
    "sigurdsson2017asynchronous": "Asynchronous Temporal Fields for Action Recognition. Gunnar A. Sigurdsson, "
    "Santosh Divvala, Ali Farhadi, Abhinav Gupta. CVPR 2017",
    "tran2018r2plus1d": "A Closer Look at Spatiotemporal Convolutions for Action Recognition. Du Tran, Heng Wang, "
    "Lorenzo Torresani, Jamie Ray, Yann LeCun, Manohar Paluri. CVPR 2018",
    "wang2018nonlocal": "Non-local Neural Networks. Xiaolong Wang, Ross Girshick, Abhinav Gupta, Kaiming He. CVPR 2018",
    "wang2019timecycle": "Learning Correspondence from the Cycle-consistency of Time. Xiaolong Wang, Allan Jabri, "
    "Alexei A. Efros. CVPR 2019",
    "zach2007tvl1": "A Duality Based Approach for Realtime TV-L1 Optical Flow. Christopher Zach, Thomas Pock, Horst "
    "Bischof. DAGM 2007",
    "zhukov2019crosstask": "Cross-task Weakly Supervised Learning from Instructional Videos. Dimitri Zhukov, "
    "Jean-Baptiste Alayrac, Ramazan Gokberk Cinbis, David Fouhey, Ivan Laptev, Josef Sivic. CVPR 2019",
    "ye2018interpretable": "Interpretable Intuitive Physics Model. Tian Ye, Xiaolong Wang, James Davidson, "
    "Abhinav Gupta. ECCV 2018",
    "zhukov2020actionness": "Learning Actionness via Long-range Temporal Order Verification. Dimitri Zhukov, "
    "Jean-Baptiste Alayrac, Ivan Laptev, Josef Sivic. ECCV 2020",
    "wightman2019timm": "PyTorch Image Models. Ross Wightman. 2019",
}
