"""Which file registers each model that comes with trtnet, so that none is imported to be listed.

A family is a module in this folder and the names under which it registers models. Only the module
of a model that is asked for is imported.
"""

from __future__ import annotations

FAMILIES = {
    "alexnet": "alexnet",
    "convnext": "convnext_tiny convnext_small convnext_base convnext_large",
    "densenet": "densenet121 densenet161 densenet169 densenet201",
    "efficientnet": """
        efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
        efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m
        efficientnet_v2_l
    """,
    "googlenet": "googlenet",
    "inception": "inception_v3",
    "lenet": "lenet5",
    "maxvit": "maxvit_t",
    "mnasnet": "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
    "mobilenet": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3_large mobilenet_v3_small",
    "regnet": """
        regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf
        regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf
        regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf
    """,
    "resnet": """
        resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d
        resnext101_64x4d wide_resnet50_2 wide_resnet101_2
    """,
    "resnet_digits": "resnet20_digits",
    "shufflenet": "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
    "squeezenet": "squeezenet1_0 squeezenet1_1",
    "swin_transformer": "swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b",
    "vgg": "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
    "vision_transformer": "vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14",
    "detection.darknet": "yolov3 yolov3_tiny yolov4 yolov4_tiny",
    "detection.detr.d_fine": "dfine_n dfine_s dfine_m dfine_l dfine_x",
    "detection.detr.detr": "detr_resnet50",
    "detection.detr.rf_detr": "rfdetr_n rfdetr_s rfdetr_m rfdetr_l rfdetr_base",
    "detection.detr.rt_detr": "rtdetr_r18 rtdetr_r34 rtdetr_r50 rtdetr_r101 rtdetr_shapes",
    "detection.detr.rt_detr_v2": """
        rtdetr_v2_r18 rtdetr_v2_r34 rtdetr_v2_r50m rtdetr_v2_r50 rtdetr_v2_r101
    """,
    "detection.faster_rcnn": """
        fasterrcnn_resnet50_fpn fasterrcnn_resnet50_fpn_v2 fasterrcnn_mobilenet_v3_large_fpn
        fasterrcnn_mobilenet_v3_large_320_fpn
    """,
    "detection.fcos": "fcos_resnet50_fpn",
    "detection.keypoint_rcnn": "keypointrcnn_resnet50_fpn",
    "detection.mask_rcnn": "maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2",
    "detection.refinedet": "refinedet320_vgg16",
    "detection.retinanet": "retinanet_resnet50_fpn retinanet_resnet50_fpn_v2",
    "detection.ssd": "ssd300_vgg16",
    "detection.ssdlite": "ssdlite320_mobilenet_v3_large",
    "detection.yolo.classify": "yolov8n_cls yolov8s_cls yolov8m_cls yolov8l_cls yolov8x_cls",
    "detection.yolo.pose": "yolov8n_pose yolov8s_pose yolov8m_pose yolov8l_pose yolov8x_pose",
    "detection.yolo.segment": "yolov8n_seg yolov8s_seg yolov8m_seg yolov8l_seg yolov8x_seg",
    "detection.yolo.v11": "yolo11n yolo11s yolo11m yolo11l yolo11x",
    "detection.yolo.v26": "yolo26n yolo26s yolo26m yolo26l yolo26x",
    "detection.yolo.v7": "yolov7",
    "detection.yolo.v8": "yolov8n yolov8s yolov8m yolov8l yolov8x",
    "detection.yolo.v9": "yolov9t yolov9s yolov9m yolov9c",
    "detection.yolox": "yolox_nano yolox_tiny yolox_s yolox_m yolox_l yolox_x yolox_shapes",
    "segmentation.deeplabv3": "deeplabv3_resnet50 deeplabv3_resnet101 deeplabv3_mobilenet_v3_large",
    "segmentation.fcn": "fcn_resnet50 fcn_resnet101",
    "segmentation.lraspp": "lraspp_mobilenet_v3_large",
    "segmentation.unet": "unet",
}

SHIPPED = "trtnet.zoo."
"""Prefix of the names of the modules with the models that come with trtnet."""

HOMES = {name: f"{SHIPPED}{module}" for module, names in FAMILIES.items() for name in names.split()}
"""Name of a model → the module that registers it."""


def check_listed(name: str, module: str) -> None:
    """Checks that `module`, of this folder, is the one that registers `name`.

    Raises:
        ValueError: it is not; what to write is said.
    """
    if HOMES.get(name) != module:
        family = module.removeprefix(SHIPPED)
        raise ValueError(
            f"{module} registers {name!r}, which zoo/families.py does not say: add the name to "
            f"FAMILIES[{family!r}], so that it is listed"
        )
